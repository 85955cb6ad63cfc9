#!/bin/sh
# Part of other scripts: what users have written goes where the next release will have it.
add() { # newer and missing files of $1 come to $2; none is removed there
	# A link there is replaced, and never written through: the users of an app, who may
	# write there, could have laid it.
	if cp --remove-destination --help >/dev/null 2>&1; then
		cp -a -u --remove-destination "$1" "$2"
		return
	fi
	# cp of busybox does not know that: what is a link there, and none here, goes first.
	[ -d "$1" ] || { [ ! -L "$2" ] || rm -f "$2"; }
	[ ! -d "$1" ] || (cd "$2" && find . -type l) | while IFS= read -r found; do
		[ -L "$1/$found" ] || [ ! -e "$1/$found" ] || rm -f "$2/$found"
	done
	cp -a -u "$1" "$2"
}
straight() { # refuses a path $2 in the folder $1 that a link is part of
	place=$1 left=$2/
	while [ ! -L "$place" ]; do
		[ "$left" ] || return 0
		place=$place/${left%%/*} left=${left#*/}
	done
	echo "shared $2: $place is a link" >&2
	exit 1
}
