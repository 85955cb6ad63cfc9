#!/bin/sh
# usage: check APP_DIR [MODULE_DIR TARGET]...   (prints facts, one KEY=VALUE a line)
set -u
app=$1
shift
above() { # the nearest parent of $1 that exists
	up=${1%/*}
	until [ -d "${up:-/}" ]; do up=${up%/*}; done
	printf '%s' "${up:-/}"
}
say() { printf '%s\n' "$1"; } # echo would read backslashes
say "uid=$(id -u)"
say "gid=$(id -g)"
for tool in tar zstd gzip flock setsid sha256sum curl wget; do
	! command -v "$tool" >/dev/null || say "tool=$tool"
done
at=$app
[ -d "$at" ] || at=$(above "$at")
[ -w "$at" ] || say "unwritable=$at"
say "blocks=$(df -Pk "$at" 2>/dev/null | tail -n 1)"
say "inodes=$(df -Pi "$at" 2>/dev/null | tail -n 1)"
# A random name: hosts that are containers may share /tmp and their PIDs repeat.
try=$app/.ghost
[ -w "$try" ] || try=${TMPDIR:-/tmp}
# shellcheck disable=SC2154  # comes with the frame
try=$try/ghost-try.$nonce
if mkdir "$try" "$try/a" "$try/b"; then
	ln -s a "$try/link"
	ln -s b "$try/new"
	if mv -T "$try/new" "$try/link" 2>/dev/null && [ "$(readlink "$try/link")" = b ]; then
		say "rename=mv"
	elif python3 -c '' 2>/dev/null; then
		say "rename=python3"
	elif perl -e '' 2>/dev/null; then
		say "rename=perl"
	fi
	rm -rf "$try"
fi
while [ $# -gt 0 ]; do
	dir=$1 target=$2
	shift 2
	say "module=$dir"
	if [ -L "$target" ]; then
		link=$(readlink "$target")
		say "target=link"
		say "link=$(printf '%s' "$link" | tr '\n' '?')"
		id=${link##*/}
		if [ "$link" = "$dir/$id" ]; then
			[ -d "$link" ] || say "dangling=$id"
			! [ -f "$dir/.ghost/$id/fingerprint" ] || say "fingerprint=$(cat "$dir/.ghost/$id/fingerprint")"
		fi
	elif [ -d "$target" ]; then
		say "target=directory"
	elif [ -e "$target" ]; then
		say "target=file"
	else
		say "target=absent"
	fi
	up=$(above "$target")
	[ -w "$up" ] || say "unwritable=$up"
	for release in "$dir"/*_*; do
		id=${release##*/}
		! [ -d "$release" ] || ! [ -d "$dir/.ghost/$id" ] || say "release=$id"
	done
done
