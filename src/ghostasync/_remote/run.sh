#!/bin/sh
# usage: run CWD FILE TEXT ENVIRONMENT [NAME=VALUE]...
# Runs FILE (or TEXT, where FILE is empty) and ends with its status. When stdin ends
# before the script does, or somebody ends this one, the controller has gone or lost
# patience: the script's whole process group is ended, so that it can not overlap the
# next run's.
set -eu
exec 3<&0
(
	exec 3<&-
	cd "$1"
	# Chosen before the environment is there: its names are the user's, PATH included,
	# but for those that begin with GHOST.
	GHOST_FILE=$2 GHOST_TEXT=$3 GHOST_SETSID=$(command -v setsid || :) GHOST_BANG=
	if [ -n "$2" ] && [ "$(dd if="$2" bs=2 count=1 2>/dev/null)" = '#!' ]; then
		GHOST_BANG=1
		chmod u+x "$2"
	fi
	# shellcheck disable=SC1090  # written by environment.sh
	. "$4"
	shift 4
	# shellcheck disable=SC2163  # NAME=VALUE in one word
	for GHOST_PAIR; do export "$GHOST_PAIR"; done
	if [ -z "$GHOST_FILE" ]; then
		set -- /bin/sh -c "$GHOST_TEXT"
	elif [ -n "$GHOST_BANG" ]; then
		set -- "$GHOST_FILE"
	else
		set -- /bin/sh "$GHOST_FILE"
	fi
	exec ${GHOST_SETSID:+"$GHOST_SETSID"} "$@"
) </dev/null 2>&1 &
script=$!
. ./family.sh # for hosts without setsid
# shellcheck disable=SC2086  # a list of numbers
end() { kill -s "$1" -- "-$script" || kill -s "$1" $family; }
gone=
trap 'gone=1' HUP INT TERM
# A builtin that opens it is us, and not a child.
read -r self _ </proc/self/stat
(
	cat <&3
	# Again and again: one that comes just before the wait is lost.
	while kill -s TERM "$self"; do sleep 1; done
) >/dev/null 2>&1 &
watch=$!
exec 3<&-
status=0
wait "$script" || status=$?
kill -s KILL "$watch" 2>/dev/null || :
if [ "$gone" ]; then
	trap '' HUP INT TERM
	(
		family=$(family "$script")
		end TERM
		for _ in 1 2 3 4 5; do
			sleep 0.1 || sleep 1
			end 0 || exit 0
			sleep 1
		done
		end KILL
	) >/dev/null 2>&1 &
	watch=$!
	wait "$script" || status=$?
fi
wait "$watch" 2>/dev/null || :
exit "$status"
