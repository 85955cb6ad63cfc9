#!/bin/sh
# usage: run_as_inner NVARIABLES NBANG NSCRIPT NMESSAGE   (texts on stdin, of so many bytes)
# Runs the script with the variables, by what its first line asks for, and ends it when
# stdin ends. The message of the commit is kept in a file meanwhile, for variables may be
# too small for it.
set -u
nvariables=$1 nbang=$2 nscript=$3 nmessage=$4
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
message=$(bytes "$nmessage" && echo .)
read -r go || :
[ "$go" = go ] || exit 143 # cut short: the process at the other end is gone
kept=$(mktemp "${TMPDIR:-/tmp}/ghost-message.XXXXXX" 2>/dev/null) || kept=
[ -z "$kept" ] || printf '%s' "${message%.}" >"$kept"
set -f
# shellcheck disable=SC2086  # an interpreter, and perhaps an argument
set -- "$variables" "$kept" ${setsid:+"$setsid"} ${bang:-/bin/sh} /dev/fd/9
set +f
exec 4<&0
printf '%s' "${text%.}" | (
	exec 9<&0 </dev/null 4<&-
	# From here on any name may be a variable of the user.
	eval "$1"
	export GHOST_MODULE_COMMIT_MESSAGE_FILE="$2"
	shift 2
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
[ -z "$kept" ] || rm -f "$kept"
wait "$watch" 2>/dev/null || :
exit "$status"
