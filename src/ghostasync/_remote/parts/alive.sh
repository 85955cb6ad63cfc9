#!/bin/sh
# Part of other scripts: processes that ours have noted, each by its number and the time at
# which it began. A number alone may be another process's by now, and any user can give a
# process any name.
alive() { # whether the process $1, which began at $2, is at work
	[ "$1" ] && [ "$2" ] || return 1
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
	# shellcheck disable=SC2086  # numbers, behind the name, which may hold blanks
	set -- "$2" ${stat##*) }
	[ "$2" != Z ] && [ "$1" = "${21-}" ]
}
began_at() { # prints the time at which the process $1 began
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
	# shellcheck disable=SC2086  # numbers, as above
	set -- ${stat##*) }
	echo "${20-}"
}
