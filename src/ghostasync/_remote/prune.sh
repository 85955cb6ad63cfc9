#!/bin/sh
# usage: prune DIR TARGET KEEP FAILED FINGERPRINT [ID]...
# Notes FINGERPRINT of the live release, where it is not empty: the release is proven. Then
# removes releases from DIR, a module's folder, but for the live one, KEEP - 1 that were
# live before, FAILED that never were, and each ID. Prints the ids that it removes.
set -eu
dir=$1 target=$2 keep=$3 failed=$4 fingerprint=$5
shift 5
cd "$dir"
kept=" $* "
current=$(readlink "$target" || :)
rm -f "${target%/*}/.${target##*/}.ghost-back"
if [ -n "$fingerprint" ]; then
	umask 077
	printf '%s\n' "$fingerprint" >".ghost/${current##*/}/fingerprint"
	rm -f ".ghost/${current##*/}/environment.before"
fi
newest_first() {
	sed '1!G;h;$!d'
}
left=$((keep - 1)) seen=" ${current##*/} "
for id in $(newest_first <.ghost/history 2>/dev/null || :); do
	case $seen in *" $id "*) continue ;; esac
	if [ -d "$id" ] && [ "$left" -gt 0 ]; then
		left=$((left - 1)) seen="$seen$id "
	fi
done
kept="$kept$seen"
for id in $(printf '%s\n' [0-9]*_*_* | sort -rn); do
	[ -d "$id" ] || continue
	case $kept in *" $id "*) continue ;; esac
	if [ "$failed" -gt 0 ] && ! grep -qxF "$id" .ghost/history 2>/dev/null; then
		failed=$((failed - 1))
		continue
	fi
	# One rename takes it away; removed in place, it would look whole for a while.
	mv "$id" ".ghost/$id.removed"
	echo "$id"
done
# Also those of a prune that was cut short. Read-only folders are opened first: rm would
# fail on them.
for old in .ghost/*.removed; do
	[ -d "$old" ] || continue
	chmod -R u+rwx "$old" 2>/dev/null || :
	id=${old#.ghost/}
	rm -rf "$old" ".ghost/${id%.removed}"
done
# The history without releases that are gone, each id once, where it was live last.
if [ -f .ghost/history ]; then
	while read -r id; do
		! [ -d "$id" ] || echo "$id"
	done <.ghost/history | newest_first | awk '!seen[$0]++' | newest_first >.ghost/history.new ||
		{ rm -f .ghost/history.new && exit 1; } # a full disk
	mv .ghost/history.new .ghost/history
fi
