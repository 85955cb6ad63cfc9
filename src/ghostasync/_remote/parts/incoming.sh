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
for stale in "$dir"/.ghost/*.incoming; do [ ! -e "$stale" ] || wipe "$stale"; done
in=$dir/.ghost/$id.incoming
trap 'cd / && wipe "$in"' EXIT
trap 'exit 143' HUP INT PIPE TERM
(umask 077 && mkdir "$in")
# What the folder above hands down, every file of the release would have: a setgid bit, an
# ACL.
bare() { case $(ls -dln "$in") in drwx------[!+]*) ;; *) false ;; esac }
bare || {
	chmod g-s "$in"
	bare || { setfacl -bk "$in" || tar -cC "$in" --no-recursion . | tar -xpC "$in" --acls; } \
		2>/dev/null && chmod 700 "$in"
	bare || die "$dir hands an ACL down, which would open the release: install acl"
}
cd "$in"
