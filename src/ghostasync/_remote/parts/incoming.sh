#!/bin/sh
# Part of receive and pull: a release gets a folder of its own, beside its place, and this
# script works there. Ends here where the release is there.
umask 022
# Without TZ, find looks for the time zone with every file.
export LC_ALL=C TZ=UTC0
. ./parts/extract.sh
. ./parts/sha256.sh
. ./parts/verify.sh
. ./parts/flush.sh
. ./parts/ours.sh

if [ -d "$dir/$id" ]; then
	cat >/dev/null
	exit
fi
ours "$dir"
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
