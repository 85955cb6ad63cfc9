#!/bin/sh
# usage: restore RENAME BUSY [MODULE_DIR TARGET PREVIOUS NEW ASIDE]...
# Puts each link back to PREVIOUS (or removes it) where it is NEW; refuses to touch others.
# Prints for each target whether it was moved, what the release that serves again has,
# and how that proves its health: "restored,post_deploy TARGET", "verify JSON".
set -eu
how=$1 busy=$2
shift 2
rename() {
	case $how in
	python3) python3 -c 'import os, sys; os.replace(*sys.argv[1:])' "$1" "$2" ;;
	perl) perl -e 'rename $ARGV[0], $ARGV[1] or die "rename: $!\n"' "$1" "$2" ;;
	*) mv -T "$1" "$2" ;;
	esac
}
# A switch whose connection died may still be on its way: it must not win afterwards.
if [ -f "$busy" ] && read -r pid <"$busy"; then
	! grep -qs ghost-switch "/proc/$pid/cmdline" || ! kill -s KILL "$pid" || sleep 1
	rm -f "$busy"
fi
failed=0
while [ $# -gt 0 ]; do
	dir=$1 target=$2 previous=$3 new=$4 aside=$5
	shift 5
	now=$(readlink "$target" || :)
	link=${target%/*}/.${target##*/}.ghost back=${target%/*}/.${target##*/}.ghost-back
	has=restored
	# Of a switch that was ended: an mv of it that is late finds nothing to rename.
	rm -f "$link"
	if [ "$now" != "$new" ]; then
		has=left
		if [ -n "$aside" ] && [ -e "$aside" ] && [ -z "$now" ] && [ ! -e "$target" ]; then
			mv "$aside" "$target"
		elif [ "$now" != "$previous" ]; then
			rm -f "$back"
			printf '%s\n' "$target points to ${now:-nothing}, neither ${previous:-absent} nor $new: left alone" >&2
			failed=1
			continue
		fi
	elif [ -n "$aside" ] && [ ! -e "$aside" ]; then
		printf '%s\n' "$aside is not there any more: $target still points to $new" >&2
		failed=1
		continue
	elif [ -n "$aside" ]; then
		rm "$target"
		mv "$aside" "$target"
	elif [ -z "$previous" ]; then
		rm "$target"
	elif [ "$previous" != "$new" ]; then
		if [ "$(readlink "$back" || :)" != "$previous" ]; then
			rm -f "$back"
			ln -s "$previous" "$back"
		fi
		rename "$back" "$target"
	fi
	rm -f "$back"
	sync -f "${target%/*}" 2>/dev/null || sync
	meta=$dir/.ghost/${previous##*/}
	ghost_verify=
	if [ -n "$previous" ] && [ "$previous" = "$dir/${previous##*/}" ]; then
		# The same release again: its environment was ours to replace.
		[ "$previous" != "$new" ] || [ ! -f "$meta/environment.before" ] ||
			mv "$meta/environment.before" "$meta/environment"
		! [ -f "$meta/post_deploy" ] || has=$has,post_deploy
		# shellcheck disable=SC1091  # written by environment.sh
		ghost_verify=$(. "$meta/environment" 2>/dev/null && printf '%s' "${ghost_verify-}") || :
	fi
	printf '%s\n' "$has $target"
	[ -z "$ghost_verify" ] || printf '%s\n' "verify $ghost_verify"
done
exit "$failed"
