#!/bin/sh
# usage: environment META TARGET NBYTES [SCRIPT]...
# Keeps stdin, NBYTES long, as the environment to come of the release that META belongs to;
# 0600, for it holds secrets. The switch makes it the release's own. A release that is
# deployed again is not proven until this run proves it, so its fingerprint goes. Prints why
# one of its scripts SCRIPT cannot be started, as "try" does; it will be at TARGET.
set -eu
meta=$1 target=$2 nbytes=$3
shift 3
. ./parts/start.sh
umask 077
next=$meta/environment.next
trap 'rm -f "$next.new"' EXIT
cat >"$next.new"
[ "$(wc -c <"$next.new")" -eq "$nbytes" ] ||
	{ echo "the environment arrived cut short" >&2 && exit 1; }
[ ! -e "$meta/fingerprint" ] || rm -f "$meta/fingerprint"
[ -e "$meta/commit_message" ] || : >"$meta/commit_message"
mv "$next.new" "$next"
trap - EXIT
path='' mount=.
for script; do
	first=
	{ IFS= read -r first <"$meta/$script" || :; } 2>/dev/null
	case $first in '#!'*) ;; *) continue ;; esac
	[ "$mount" != . ] || mount=$(noexec "$meta")
	[ -z "$mount" ] || echo "noexec=$script $mount"
	# shellcheck disable=SC1090  # exports
	path=${path:-$(. "$next" >/dev/null 2>&1 && printf '%s' "$PATH")}
	why=$(unfit "$first" "$path" "$target")
	[ -z "$why" ] || printf 'unfit=%s %s\n' "$script" "$why"
done
