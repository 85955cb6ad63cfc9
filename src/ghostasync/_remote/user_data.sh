#!/bin/sh
# usage: user_data [--follow]
# Gets the script of this app for hosts that boot from the store, makes sure that it is the
# one whose sha256 stands in front of this text ($script), and runs it from its place.
# shellcheck disable=SC2154  # named in front
set -u
umask 022
to=${GHOSTASYNC_BOOT:-/var/lib/ghostasync/boot}
mkdir -p "${to%/*}" && work=$(mktemp -d "${to%/*}/work.XXXXXX") || exit 1
unfit() {
	echo "ghostasync boot: failed: $*" >&2
	[ -z "$hook" ] || tell_group ABANDON || echo "ghostasync boot: Auto Scaling was not told" >&2
	rm -rf "$work"
	exit 1
}
later() {
	echo "$*" >"$work/why"
	exit 75
}
. ./parts/bucket.sh
clock
ends=$(($(date +%s) + wait)) pause=1
until (get "boot/$script" "$work/boot" || later "the store has no boot/$script"); do
	why=$(cat "$work/why")
	[ "$(date +%s)" -lt "$ends" ] || unfit "$why"
	echo "ghostasync boot: waits: $why" >&2
	sleep "$pause"
	[ "$pause" -ge 30 ] || pause=$((pause * 2))
done
[ "$(sha <"$work/boot")" = "$script" ] || unfit "boot/$script in the store is another script"
chmod 755 "$work/boot"
mv "$work/boot" "$to"
rm -rf "$work"
exec /bin/sh "$to" "$@"
