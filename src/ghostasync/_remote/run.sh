#!/bin/sh
# usage: run CWD FILE TEXT ENVIRONMENT [NAME=VALUE]...
# Runs FILE (or TEXT, where FILE is empty) and ends with its status.
#
# How it works. Only the end of stdin tells that a controller has gone: sshd ends nothing,
# and signals do not reach everything. So a background process waits for that end, and the
# script runs in a session of its own. When stdin ends before the script does, or a signal
# comes, the script's whole process group is ended, so that it cannot overlap the scripts of
# the next run.
set -eu
# Names that no variable of the user can have: they may have any that does not begin with
# GHOST, PATH included.
GHOST_CWD=$1 GHOST_FILE=$2 GHOST_TEXT=$3 GHOST_ENVIRONMENT=$4
shift 4
exec 3<&0
(
	exec 3<&-
	cd "$GHOST_CWD"
	GHOST_SETSID=$(command -v setsid || :) GHOST_BANG=
	[ -z "$GHOST_FILE" ] || { IFS= read -r GHOST_BANG || :; } 2>/dev/null <"$GHOST_FILE" || :
	case $GHOST_BANG in '#!'*) chmod u+x "$GHOST_FILE" ;; *) GHOST_BANG= ;; esac
	# Behind these words stands what changes the user. Until it has, no variable of the app
	# may have a say: PATH and its like lead to files that others can write.
	case $GHOST_TEXT in
	'# as another user'*)
		# shellcheck disable=SC1090  # written by environment.sh
		GHOST_RELEASE_PATH=$(. "$GHOST_ENVIRONMENT" && printf %s "${GHOST_RELEASE_PATH-}")
		;;
	*)
		# shellcheck disable=SC1090  # written by environment.sh
		. "$GHOST_ENVIRONMENT"
		;;
	esac
	# Through a link: what it leads to must be the release still, whoever has moved it.
	GHOST_HERE=$(pwd -P)
	[ "$GHOST_HERE" = "$(cd -P "${GHOST_RELEASE_PATH:-.}" && pwd)" ] || {
		echo "$GHOST_CWD leads to $GHOST_HERE, not to $GHOST_RELEASE_PATH"
		exit 126
	}
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
. ./parts/descendants.sh
. ./parts/end_group.sh
gone=
trap 'gone=1' HUP INT TERM
. ./parts/self.sh
. ./parts/alive.sh
(
	cat <&3
	# Again and again: a signal that comes just before the wait is lost.
	while { [ -z "$began" ] || alive "$self" "$began"; } && kill -s TERM "$self"; do
		sleep 1
	done
) >/dev/null 2>&1 &
watch=$!
exec 3<&-
status=0
wait "$script" || status=$?
kill -s KILL "$watch" 2>/dev/null || :
if [ "$gone" ]; then
	trap '' HUP INT TERM
	end_group 5 >/dev/null 2>&1 &
	watch=$!
	wait "$script" || status=$?
fi
wait "$watch" 2>/dev/null || :
exit "$status"
