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
echo "uid=$(id -u)"
echo "gid=$(id -g)"
for tool in tar zstd gzip flock setsid sha256sum curl wget; do
	! command -v "$tool" >/dev/null || echo "tool=$tool"
done
at=$app
[ -d "$at" ] || at=$(above "$at")
[ -w "$at" ] || echo "unwritable=$at"
echo "blocks=$(df -Pk "$at" 2>/dev/null | tail -n 1)"
echo "inodes=$(df -Pi "$at" 2>/dev/null | tail -n 1)"
# A random name: hosts that are containers may share /tmp and their PIDs repeat.
try=$app/.ghost
[ -w "$try" ] || try=${TMPDIR:-/tmp}
# shellcheck disable=SC2154  # comes with the frame
try=$try/ghost-try.$nonce
if mkdir "$try" "$try/a" "$try/b"; then
	ln -s a "$try/link"
	ln -s b "$try/new"
	if mv -T "$try/new" "$try/link" 2>/dev/null && [ "$(readlink "$try/link")" = b ]; then
		echo "rename=mv"
	elif python3 -c '' 2>/dev/null; then
		echo "rename=python3"
	elif perl -e '' 2>/dev/null; then
		echo "rename=perl"
	fi
	rm -rf "$try"
fi
while [ $# -gt 0 ]; do
	dir=$1 target=$2
	shift 2
	echo "module=$dir"
	if [ -L "$target" ]; then
		link=$(readlink "$target")
		echo "target=link"
		echo "link=$(printf '%s' "$link" | tr '\n' '?')"
		id=${link##*/}
		if [ "$link" = "$dir/$id" ]; then
			[ -d "$link" ] || echo "dangling=$id"
			! [ -f "$dir/.ghost/$id/fingerprint" ] || echo "fingerprint=$(cat "$dir/.ghost/$id/fingerprint")"
		fi
	elif [ -d "$target" ]; then
		echo "target=directory"
	elif [ -e "$target" ]; then
		echo "target=file"
	else
		echo "target=absent"
	fi
	up=$(above "$target")
	[ -w "$up" ] || echo "unwritable=$up"
	for release in "$dir"/*_*; do
		id=${release##*/}
		! [ -d "$release" ] || ! [ -d "$dir/.ghost/$id" ] || echo "release=$id"
	done
done
