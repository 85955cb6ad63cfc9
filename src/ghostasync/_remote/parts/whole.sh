#!/bin/sh
# Part of receive and pull: release/ and ghost/ in this folder are proven, and get their
# places.
# shellcheck disable=SC2154  # the others assign them
cd release
verify
# tar of busybox, as root, leaves symbolic links to root.
if [ "$owner" = keep ]; then
	whose=$(stat -c %u:%g .)
	find . -type l -exec chown -h "$whose" {} +
fi
# Times of folders and links, attributes, and modes that could not travel.
# shellcheck disable=SC1091  # comes with the archive
. ../ghost/settle

flush -f .
cd ..
# The records first: a release that is in its place has them. Flushed before, so that a
# power failure leaves no release with half its bytes.
[ ! -e "$dir/.ghost/$id" ] || wipe "$dir/.ghost/$id"
mv ghost "$dir/.ghost/$id"
mv release "$dir/$id"
flush "$dir" "$dir/.ghost"
