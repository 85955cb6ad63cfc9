#!/bin/sh
# Part of other scripts: processes, by the parents that /proc tells.
# shellcheck disable=SC2013  # no blank in these names
descendants() { # the processes $* with all below them
	all=$* next=$*
	while [ "$next" ]; do
		found=
		for parent in $next; do
			for status in $(grep -ls "^PPid:[[:space:]]*$parent\$" /proc/[0-9]*/status); do
				child=${status#/proc/}
				found="$found ${child%/*}"
			done
		done
		all="$all $found" next=$found
	done
	echo "$all"
}
