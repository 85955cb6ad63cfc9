#!/bin/sh
# Part of other scripts, beside descendants: the end of the process group $script.
# shellcheck disable=SC2086  # a list of numbers
end_group() { # asks it to end, and kills it where it has not ended after $1 seconds
	# On a host without setsid the script has no group of its own: its family is listed
	# now, while parents still tell who belongs to it.
	family=$(descendants "$script")
	signal TERM
	left=$1
	while [ "$left" -gt 0 ]; do
		left=$((left - 1))
		sleep 0.1 || sleep 1
		signal 0 || return 0
		sleep 1
	done
	signal KILL
}
signal() { kill -s "$1" -- "-$script" || kill -s "$1" $family; }
