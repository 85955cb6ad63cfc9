#!/bin/sh
# usage: environment META NBYTES
# Keeps stdin, NBYTES long, as the environment to come of the release that META belongs to;
# 0600, for it holds secrets. The switch makes it the release's own. A release that is
# deployed again is not proven until this run proves it, so its fingerprint goes.
set -eu
meta=$1 nbytes=$2
umask 077
next=$meta/environment.next
trap 'rm -f "$next.new"' EXIT
cat >"$next.new"
[ "$(wc -c <"$next.new")" -eq "$nbytes" ] ||
	{ echo "the environment arrived cut short" >&2 && exit 1; }
rm -f "$meta/fingerprint"
[ -e "$meta/commit_message" ] || : >"$meta/commit_message"
mv "$next.new" "$next"
