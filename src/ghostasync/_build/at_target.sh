#!/bin/sh
# usage: at_target TARGET UID GID COMMAND...
# Runs COMMAND in this folder under the path TARGET, as UID and GID; in mounts of its own,
# which end with it. What stands at TARGET here, and beside it, stays as it is.
set -eu
target=$1 uid=$2 gid=$3
shift 3
no() {
	echo "modules.build_at_target: no build at $target here: $*" >&2
	exit 1
}
# What is mounted is found by descriptors, whatever is mounted over it (-c: as they are).
exec 8<.
made=$target
while [ "$made" ] && { [ ! -d "$made" ] || [ -L "$made" ]; }; do
	over=$made made=${made%/*}
done
if [ "$made" != "$target" ]; then
	# A folder of ours takes the place of the nearest one that is there, and gets all that
	# is in it, and the way to the target.
	[ "$made" ] || no "make the folder $over, which stays empty"
	exec 9<"$made"
	mount -t tmpfs none "$made" || no "mount failed"
	for path in /proc/self/fd/9/* /proc/self/fd/9/.[!.]*; do
		there=$made/${path##*/}
		[ "$there" != "$over" ] || continue
		if [ -L "$path" ]; then
			cp -P "$path" "$there"
		elif [ -d "$path" ]; then
			mkdir "$there"
			mount -c --rbind "$path" "$there"
		elif [ -e "$path" ]; then
			: >"$there"
			mount -c --bind "$path" "$there"
		fi
	done
	exec 9<&-
	mkdir -p "$target"
fi
mount -c --bind /proc/self/fd/8/. "$target" || no "mount failed"
exec 8<&-
cd "$target"
[ "$(id -u)" = "$uid" ] || exec unshare --user --map-user="$uid" --map-group="$gid" "$@"
exec "$@"
