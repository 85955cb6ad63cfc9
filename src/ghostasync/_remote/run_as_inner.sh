#!/bin/sh
# usage: run_as_inner NVARIABLES NBANG NSCRIPT   (three texts on stdin, of so many bytes)
# Runs the script with the variables, by what its first line asks for, and ends it when
# stdin ends.
set -u
nvariables=$1 nbang=$2 nscript=$3
eval "HOME=~$(id -un)"
USER=$(id -un) LOGNAME=$USER
export HOME USER LOGNAME
setsid=$(command -v setsid || :)
bytes() {
	nbytes=$1
	. ./parts/bytes.sh
}
variables=$(bytes "$nvariables")
bang=$(bytes "$nbang")
text=$(bytes "$nscript" && echo .)
read -r go || :
[ "$go" = go ] || exit 143 # cut short: the process at the other end is gone
set -f
# shellcheck disable=SC2086  # an interpreter, and perhaps an argument
set -- "$variables" ${setsid:+"$setsid"} ${bang:-/bin/sh} /dev/fd/9
set +f
exec 4<&0
printf '%s' "${text%.}" | (
	exec 9<&0 </dev/null 4<&-
	# From here on any name may be a variable of the user.
	eval "$1"
	shift
	exec "$@"
) 4<&- 2>&1 &
script=$!
. ./parts/descendants.sh
. ./parts/end_group.sh
(
	read -r _ <&4
	trap '' TERM
	end_group 3
) >/dev/null 2>&1 &
watch=$!
trap '' HUP INT TERM
exec 4<&- </dev/null
status=0
wait "$script" || status=$?
kill "$watch" 2>/dev/null || :
wait "$watch" 2>/dev/null || :
exit "$status"
