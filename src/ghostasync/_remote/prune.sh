#!/bin/sh
# usage: prune DIR TARGET KEEP FAILED FINGERPRINT GENERATION [ID]...
# Notes FINGERPRINT of the live release, where it is not empty: the release is proven, and
# the record of GENERATION says "live". Then removes releases from DIR, a module's folder,
# but for those that a link leads to, KEEP - 1 that were live before, FAILED that never
# were, and each ID. Prints the ids that it removes.
# shellcheck disable=SC2046,SC2086  # lists of ids, and of numbers
set -eu
dir=$1 target=$2 keep=$3 failed=$4 fingerprint=$5 generation=$6
shift 6
cd "$dir"
kept=" $* "
current=$(readlink "$target" || :)
. ./parts/none.sh
none "${target%/*}/.${target##*/}".ghost-back-*
if [ -n "$fingerprint" ]; then
	umask 077
	printf '%s\n' "$fingerprint" >".ghost/${current##*/}/fingerprint"
	before=.ghost/${current##*/}/environment.before
	[ ! -e "$before" ] || rm -f "$before"
	record=.ghost/activations/$generation
	[ ! -f "$record" ] || printf 'outcome=live    ' 1<>"$record"
fi
# Releases by their records: those that were live, and those that a recorded link leads to.
# A module whose path was moved has an old link, which may still serve.
records() { (cd .ghost/activations 2>/dev/null && "$@"); }
lived() {
	set -- $(grep -ls '^outcome=live' [0-9]* | sort -rn)
	[ $# -eq 0 ] || sed -n 's/^release=//p' "$@"
}
targets() { sed -n 's/^target=//p' /dev/null [0-9]* 2>/dev/null | LC_ALL=C sort -u; }
# Most often there is nothing but what serves.
set -- [0-9]*_*_*
if [ $# -gt 1 ]; then
	lived=$(records lived) || lived=
	left=$((keep - 1)) seen=" ${current##*/} " were=" "
	for id in $lived; do
		were="$were$id "
		case $seen in *" $id "*) continue ;; esac
		if [ -d "$id" ] && [ "$left" -gt 0 ]; then
			left=$((left - 1)) seen="$seen$id "
		fi
	done
	linked=$(records targets | while IFS= read -r link; do
		link=$(readlink "$(printf '%b' "$link")") || continue
		[ "${link%/*}" != "$dir" ] || printf ' %s' "${link##*/}"
	done)
	seen="$seen$linked "
	kept="$kept$seen"
	for id in $(printf '%s\n' [0-9]*_*_* | sort -rn); do
		[ -d "$id" ] || continue
		case $kept in *" $id "*) continue ;; esac
		case $were in
		*" $id "*) ;;
		*)
			[ "$failed" -le 0 ] || {
				failed=$((failed - 1))
				continue
			}
			;;
		esac
		# One rename takes it away; removed in place, it would look whole for a while.
		mv "$id" ".ghost/$id.removed"
		echo "$id"
	done
fi
# Also those of a prune that was cut short. Read-only folders are opened first: rm would
# fail on them.
for old in .ghost/*.removed; do
	[ -d "$old" ] || continue
	chmod -R u+rwx "$old" 2>/dev/null || :
	id=${old#.ghost/}
	rm -rf "$old" || continue # what runs there still may have made a name meanwhile
	# It may have come again since.
	[ -d "${id%.removed}" ] || rm -rf ".ghost/${id%.removed}"
done
# The last 100 records stay, and those of releases that are there.
set -- .ghost/activations/[0-9]*
[ $# -gt 100 ] || exit 0
for record in $(records ls | sort -rn | tail -n +101); do
	id=$(sed -n 's/^release=//p' ".ghost/activations/$record")
	[ -d "$id" ] || rm -f ".ghost/activations/$record"
done
