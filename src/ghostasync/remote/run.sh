#!/bin/sh
# usage: run CWD FILE TEXT ENVIRONMENT [NAME=VALUE]...
# Runs FILE (or TEXT, where FILE is empty) and ends with its status. When stdin ends
# before the script does, the controller has gone or lost patience: the script's
# whole process group is ended, so that it can not overlap the next run's.
set -eu
cwd=$1 file=$2 text=$3 environment=$4
shift 4
exec 3<&0
(
	exec 3<&-
	cd "$cwd"
	# shellcheck disable=SC1090  # written by environment.sh
	. "$environment"
	# shellcheck disable=SC2163  # NAME=VALUE in one word
	for pair; do export "$pair"; done
	set --
	if [ -z "$file" ]; then
		set -- /bin/sh -c "$text"
	elif [ "$(dd if="$file" bs=2 count=1 2>/dev/null)" = '#!' ]; then
		chmod u+x "$file"
		set -- "$file"
	else
		set -- /bin/sh "$file"
	fi
	! command -v setsid >/dev/null || set -- setsid "$@"
	exec "$@"
) </dev/null 2>&1 &
script=$!
family() { # every descendant of the processes $*, for hosts without setsid
	for parent; do
		# shellcheck disable=SC2013  # no blank in these names
		for status in $(grep -ls "^PPid:[[:space:]]*$parent\$" /proc/[0-9]*/status); do
			child=${status#/proc/}
			family "${child%/*}"
		done
		echo "$parent"
	done
}
# shellcheck disable=SC2086  # a list of numbers
end() { kill -s "$1" -- "-$script" || kill -s "$1" $family; }
(
	cat <&3
	trap '' TERM
	family=$(family "$script")
	end TERM
	for _ in 1 2 3 4 5; do
		sleep 1
		end 0 || exit 0
	done
	end KILL
) >/dev/null 2>&1 &
watch=$!
exec 3<&-
status=0
wait "$script" || status=$?
kill "$watch" 2>/dev/null || :
wait "$watch" 2>/dev/null || :
exit "$status"
