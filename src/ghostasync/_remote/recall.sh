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
recorded() { # the value of $1, and a dot: it may end in newlines
	# shellcheck disable=SC1091  # written by environment.sh, or by this script
	unset "$1" && . "$live/environment" >/dev/null 2>&1
	eval "[ -n \"\${$1+set}\" ] && printf '%s.' \"\$$1\""
}
cat "$meta/environment" >"$next.new"
for name; do
	value=$(recorded "$name") || continue
	value=$(printf '%s\n' "$value" | LC_ALL=C sed "s/'/'\\\\''/g")
	printf "export %s='%s'\n" "$name" "${value%.}" >>"$next.new"
done
cat "$next.more" >>"$next.new"
rm -f "$meta/fingerprint"
mv "$next.new" "$next"
# shellcheck disable=SC1090  # exports
(. "$next" >/dev/null && printf '%s\n' "${ghost_verify-}")
