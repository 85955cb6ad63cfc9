#!/bin/sh
# usage: receive DIR ID DECODER OWNER PROOF [SHA256 SECONDS]   (the archive is on stdin)
# DIR: the module's folder. DECODER: zstd or gzip. OWNER: keep, as root, or drop. PROOF:
# metadata or content. With SHA256, the archive's, stdin has its address in place of it; it
# is fetched, and given up after SECONDS without a byte.
# Extracts the archive beside, proves it, flushes, then renames: a release is whole or
# absent. stdout: nothing, or lines that start with "warning:".
set -eu
dir=$1 id=$2 decoder=$3 owner=$4 proof=$5 sha256=${6-} silence=${7-}
umask 022
# Without TZ, find looks for the time zone with every file.
export LC_ALL=C TZ=UTC0
. ./parts/extract.sh
. ./parts/sha256.sh
. ./parts/verify.sh
. ./parts/download.sh
. ./parts/pull.sh
. ./parts/flush.sh

if [ -d "$dir/$id" ]; then
	cat >/dev/null
	exit
fi
mkdir -p "$dir/.ghost"
chmod 700 "$dir/.ghost"
for stale in "$dir"/.ghost/*.incoming; do wipe "$stale"; done
in=$dir/.ghost/$id.incoming
trap 'cd / && wipe "$in"' EXIT
trap 'exit 143' HUP INT PIPE TERM
mkdir "$in"
# A setgid bit of the folder above would be inherited by every folder of the release.
chmod g-s "$in"
cd "$in"
if [ "$sha256" ]; then
	IFS= read -r url
	pull "$sha256" "$silence"
else
	extract
fi

cd release
verify
# tar of busybox, as root, leaves symbolic links to root.
if [ "$owner" = keep ]; then
	whose=$(stat -c %u:%g .)
	find . -type l -exec chown -h "$whose" {} +
fi
# Times of folders and links, and modes that could not travel.
# shellcheck disable=SC1091  # comes with the archive
. ../ghost/settle

flush -f .
cd ..
# The records first: a release that is in its place has them. Flushed before, so that a
# power failure leaves no release with half its bytes.
wipe "$dir/.ghost/$id"
mv ghost "$dir/.ghost/$id"
mv release "$dir/$id"
flush "$dir" "$dir/.ghost"
