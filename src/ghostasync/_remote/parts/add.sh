#!/bin/sh
# Part of other scripts: what users have written goes where the next release will have it.
#
# The app's users may change these folders at any moment, and root works here. So it steps
# into them one at a time, names there only what is one step away, and fills a folder that
# nobody else may enter; what is ready there is renamed to its place.
# $dir is the module's folder, $kind d or f, $path what is shared, $way/$name the same,
# $was what serves there, or empty, $rename the tool that moves links, and $me the number
# of this user.

real() { [ ! -L "$2" ] && test "-$1" "$2"; } # KIND PATH
refuse() {
	printf 'shared %s: %s\n' "$path" "$*" >&2
	exit 1
}
# Works in the folder $2 of $1 from here on, and ends where a link is in the way: the folder
# that a process is in stays the same one. $3 is done in each that has to be made, if any.
reach() {
	cd -P "$1" || exit
	at=$(pwd -P) left=$2/
	while [ "$left" ]; do
		step=${left%%/*} left=${left#*/} made=
		[ "$step" != . ] || continue
		at=$at/$step
		[ ! -L "./$step" ] || refuse "$at is a link"
		if [ "${3-}" ] && [ ! -e "./$step" ]; then mkdir "./$step" && made=1 || exit; fi
		cd -P "./$step" 2>/dev/null && [ "$(pwd -P)" = "$at" ] ||
			refuse "$at is no folder that stays the same"
		[ -z "$made" ] || $3 || exit
	done
}
locate() { # $path is the folder $way and $name in it
	way=. name=${path##*/}
	[ "$name" = "$path" ] || way=${path%/*}
}
serves() { # $was is what the folder $1 has at $path, or empty
	up=$1 left=$way/ was=
	while [ "$left" ]; do
		up=$up/${left%%/*} left=${left#*/}
		[ ! -L "$up" ] || refuse "$up is a link"
	done
	! real "$kind" "$1/$path" || was=$1/$path
}
# What follows is done in a subshell.

tidy() { # puts back what a run that was killed had put aside beside the shared path
	reach "$dir/shared" "$way" 'chmod 755 .'
	for apart in ".$name.ghost-"*; do
		real d "$apart" && (inside && clear) || :
	done
}
apart() { # works in an empty folder beside the shared path
	tidy
	[ ! -L "./$name" ] || refuse "$at/$name is a link"
	# shellcheck disable=SC2154  # the nonce comes with the frame
	apart=.$name.ghost-$nonce
	(umask 077 && mkdir "./$apart") && inside && [ ! "$(ls -A)" ] ||
		refuse "somebody else changes $at"
	trap clear EXIT
	trap 'exit 143' HUP INT PIPE TERM
}
inside() { # works in $apart, if nobody else may
	cd -P "./$apart" && [ "$(pwd -P)" = "$at/$apart" ] &&
		case $(stat -c %u:%a .) in "$me":700 | "$me":2700) ;; *) false ;; esac
}
clear() { # $apart goes, but for what is nowhere else
	if [ -e ./old ] && [ -z "${settled-}" ]; then
		[ ! -e "../$name" ] && rename ./old "../$name" || return 0
	fi
	[ "${settled-}" ] && [ ! -e ./old ] || rm -rf ./old "./$name"
	cd .. && rmdir "./$apart"
}
settle() { # what has been made apart becomes the shared path
	real "$kind" "./$name" || refuse "somebody else changes what is copied"
	rename "./$name" "../$name"
	settled=1
}
merge() { # what $was has that is newer or missing comes to the shared path; none is removed
	if [ ! -e "../$name" ]; then
		cp -a "$was" "./$name"
	elif [ "$kind" = f ]; then
		[ "$was" -nt "../$name" ] || return 0
		cp -a "$was" "./$name"
	elif [ "$me" != 0 ]; then
		# Another than root can link no files of others, and can be led to no more than his.
		add "$was/." "../$name/"
		return
	else
		cp -al "../$name" "./$name"
		real d "./$name" || refuse "somebody else changes $at/$name"
		add "$was/." "./$name/"
		rename "../$name" ./old
	fi
	settle
}
add() { # newer and missing files of the folder $1 come to $2
	# A link there is replaced, and never written through.
	if cp --remove-destination --help >/dev/null 2>&1; then
		cp -a -u --remove-destination "$1" "$2"
		return
	fi
	# cp of busybox does not know that: what it would write to goes first.
	(cd "$2" && find . ! -type d) | while IFS= read -r found; do
		[ -L "$1/$found" ] || [ -e "$1/$found" ] || continue
		[ ! -L "$2/$found" ] && [ ! "$1/$found" -nt "$2/$found" ] || rm -f "$2/$found"
	done
	cp -a -u "$1" "$2"
}
