#!/bin/sh
# Part of other scripts: the move of a link, by the tool that $rename names.
rename() { # rename(2) of $1 to $2
	case $rename in
	mv) mv -T "$1" "$2" ;;
	python3) python3 -c 'import os, sys; os.replace(*sys.argv[1:])' "$1" "$2" ;;
	perl) perl -e 'rename $ARGV[0], $ARGV[1] or die "rename: $!\n"' "$1" "$2" ;;
	*) echo "no way to rename(2) a link here" >&2 && return 1 ;;
	esac
}
