#!/bin/sh
# usage: check APP_DIR [DIR TARGET]...   (prints facts, one KEY=VALUE a line)
# DIR is a module's folder, TARGET the link that it is served from. Lines about a module
# follow its "module" line. Changes nothing that lasts; any fact that cannot be found out is
# left out, hence no set -e.
set -u
app_dir=$1
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
at=$app_dir
[ -d "$at" ] || at=$(above "$at")
[ -w "$at" ] || say "unwritable=$at"
say "blocks=$(df -Pk "$at" 2>/dev/null | tail -n 1)"
# Two names for one machine lead to the same folder of the same boot.
read -r boot 2>/dev/null </proc/sys/kernel/random/boot_id || boot=
say "place=$boot $(stat -c %d:%i "$at" 2>/dev/null)"
say "inodes=$(df -Pi "$at" 2>/dev/null | tail -n 1)"
# A random name: hosts that are containers may share /tmp and their PIDs repeat.
try=$app_dir/.ghost
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
# Where logind ends the processes that a login leaves behind, it ends timers as well.
! grep -qs '^KillUserProcesses=\(yes\|true\|on\|1\)' \
	/etc/systemd/logind.conf /etc/systemd/logind.conf.d/*.conf || say "ends-logins=yes"
# The holder of the lock, if its process lives: a host that went down has left a name.
if { read -r holder && read -r pid; } 2>/dev/null <"$app_dir/.ghost/holder"; then
	! grep -qs ghost-lock "/proc/$pid/cmdline" || say "holder=$holder"
fi
# The record of the last move of $link. A switch that was killed half-way has left "armed",
# and perhaps an adopted folder aside, with nothing in its place.
recorded() {
	for file in "$dir/.ghost/armed" "$dir/.ghost/switch"; do
		aside=$(sed -n 's/^aside=//p' "$file" 2>/dev/null)
		if [ "$link" ]; then
			grep -qsxF "new=$link" "$file" || continue
		else
			[ "$aside" ] && [ -e "$aside" ] || continue
		fi
		sed -n 's/^\([a-z]*=\)/record-\1/p' "$file"
		return
	done
}
while [ $# -gt 0 ]; do
	dir=$1 target=$2 link=
	shift 2
	say "module=$dir"
	if [ -L "$target" ]; then
		link=$(readlink "$target")
		say "target=link"
		say "link=$(printf '%s' "$link" | tr '\n' '?')"
		id=${link##*/}
		if [ "$link" = "$dir/$id" ]; then
			[ -d "$link" ] || say "dangling=$id"
			! [ -f "$dir/.ghost/$id/fingerprint" ] ||
				say "fingerprint=$(cat "$dir/.ghost/$id/fingerprint")"
			# The release that was live before, by the host's own books.
			say "before=$(grep -svxF "$id" "$dir/.ghost/history" | tail -n 1)"
		fi
		recorded
	elif [ -d "$target" ]; then
		say "target=directory"
	elif [ -e "$target" ]; then
		say "target=file"
	else
		say "target=absent"
		recorded
	fi
	up=$(above "$target")
	[ -w "$up" ] || say "unwritable=$up"
	for release in "$dir"/*_*; do
		id=${release##*/}
		! [ -d "$release" ] || ! [ -d "$dir/.ghost/$id" ] || say "release=$id"
	done
done
