#!/bin/sh
# usage: recall META LIVE NBYTES [SECRET]...
# Makes the environment to come of a release that served before out of the one that it had:
# META is the folder of its records, LIVE that of the release that serves. Each variable
# SECRET gets the value that it has for LIVE, where it has one: the old one may have been
# changed since. Then comes stdin, NBYTES of exports. 0600, for it holds secrets. Prints how
# the release proves its health, in JSON.
set -eu
meta=$1 live=$2 nbytes=$3
shift 3
umask 077
next=$meta/environment.next
trap 'rm -f "$next.new" "$next.more"' EXIT
cat >"$next.more"
[ "$(wc -c <"$next.more")" -eq "$nbytes" ] ||
	{ echo "the environment arrived cut short" >&2 && exit 1; }
[ -f "$meta/environment" ] ||
	{ echo "${meta##*/} has no environment here: it never served on this host" >&2 && exit 1; }
# The value of $1 in the file $2, and a dot: it may end in newlines. A secret may have any
# name, those of this script's own variables included.
recorded() {
	# shellcheck disable=SC1090  # written by environment.sh, or by this script
	unset "$1" && . "$2" >/dev/null 2>&1
	eval "[ -n \"\${$1+set}\" ] && printf '%s.' \"\$$1\""
}
cat "$meta/environment" >"$next.new"
for name; do
	value=$(recorded "$name" "$live/environment") || continue
	value=$(printf '%s\n' "$value" | LC_ALL=C sed "s/'/'\\\\''/g")
	# By cat, which says so where the disk is full; not every shell's printf does.
	printf "export %s='%s'\n" "$name" "${value%.}" | cat >>"$next.new"
done
cat "$next.more" >>"$next.new"
rm -f "$meta/fingerprint"
mv "$next.new" "$next"
# shellcheck disable=SC1090  # exports
(. "$next" >/dev/null && printf '%s\n' "${ghost_verify-}")
