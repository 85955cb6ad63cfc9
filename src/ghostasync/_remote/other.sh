#!/bin/sh
# usage: other VARIABLES BANG SCRIPT   (all three are on stdin, of so many bytes)
# Runs SCRIPT, by what its first line asks for, and ends it when stdin ends.
set -u
eval "HOME=~$(id -un)"
USER=$(id -un) LOGNAME=$USER
export HOME USER LOGNAME
setsid=$(command -v setsid || :)
# So many of stdin, and no more.
bytes() { dd bs="$1" count=1 iflag=fullblock || dd bs=1 count="$1"; } 2>/dev/null
variables=$(bytes "$1")
bang=$(bytes "$2")
text=$(bytes "$3" && echo .)
read -r go || :
[ "$go" = go ] || exit 143 # cut short: our other end is gone
set -f
# shellcheck disable=SC2086  # an interpreter, and perhaps an argument
set -- "$variables" ${setsid:+"$setsid"} ${bang:-/bin/sh} /dev/fd/9
set +f
exec 4<&0
printf '%s' "${text%.}" | (
	exec 9<&0 </dev/null 4<&-
	# Names are the user's from here on.
	eval "$1"
	shift
	exec "$@"
) 4<&- 2>&1 &
script=$!
. ./family.sh # for hosts without setsid
# shellcheck disable=SC2086  # a list of numbers
end() { kill -s "$1" -- "-$script" || kill -s "$1" $family; }
(
	read -r _ <&4
	trap '' TERM
	family=$(family "$script")
	end TERM
	for _ in 1 2 3; do
		sleep 1
		end 0 || exit 0
	done
	end KILL
) >/dev/null 2>&1 &
watch=$!
trap '' HUP INT TERM
exec 4<&- </dev/null
status=0
wait "$script" || status=$?
kill "$watch" 2>/dev/null || :
wait "$watch" 2>/dev/null || :
exit "$status"
