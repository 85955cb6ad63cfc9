#!/bin/sh
# usage: restore RENAME [MODULE_DIR TARGET PREVIOUS NEW ASIDE]...
# Puts each link back to PREVIOUS (or removes it) where it is NEW; refuses to touch others.
# Prints what the release that serves again has, and the target, for each link it moved.
set -eu
how=$1
shift
rename() {
	case $how in
	python3) python3 -c 'import os, sys; os.replace(*sys.argv[1:])' "$1" "$2" ;;
	perl) perl -e 'rename $ARGV[0], $ARGV[1] or die "rename: $!\n"' "$1" "$2" ;;
	*) mv -T "$1" "$2" ;;
	esac
}
# A switch whose connection died may still be on its way: it must not win afterwards.
if read -r pid 2>/dev/null <"$1/.ghost/switching"; then
	! grep -qs ghost-switch "/proc/$pid/cmdline" || ! kill -s KILL "$pid" || sleep 1
	rm -f "$1/.ghost/switching"
fi
failed=0
while [ $# -gt 0 ]; do
	dir=$1 target=$2 previous=$3 new=$4 aside=$5
	shift 5
	now=$(readlink "$target" || :)
	link=${target%/*}/.${target##*/}.ghost-$$
	if [ "$now" != "$new" ]; then
		if [ -n "$aside" ] && [ -e "$aside" ] && [ -z "$now" ] && [ ! -e "$target" ]; then
			mv -T "$aside" "$target"
		elif [ "$now" != "$previous" ]; then
			echo "$target points to ${now:-nothing}, neither ${previous:-absent} nor $new: left alone" >&2
			failed=1
		fi
		continue
	fi
	if [ -n "$aside" ]; then
		rm "$target"
		mv -T "$aside" "$target"
	elif [ -z "$previous" ]; then
		rm "$target"
	elif [ "$previous" != "$new" ]; then
		ln -s "$previous" "$link"
		rename "$link" "$target"
	fi
	sync -f "${target%/*}" 2>/dev/null || sync
	has=restored
	meta=$dir/.ghost/${previous##*/}
	if [ -n "$previous" ] && [ "$previous" = "$dir/${previous##*/}" ]; then
		! [ -f "$meta/environment" ] || has=$has,environment
		! [ -f "$meta/post_deploy" ] || has=$has,post_deploy
	fi
	echo "$has $target"
done
exit "$failed"
