#!/bin/sh
# Part of other scripts: what users have written goes where the next release will have it.
add() { # newer and missing files of $1 come to $2; none is removed there
	# A link there is replaced, and never written through: the users of an app, who may
	# write there, could have laid it.
	# shellcheck disable=SC2046  # an option, or none
	cp -a -u $(cp --help 2>&1 | grep -o -e --remove-destination | head -n 1) "$1" "$2"
}
