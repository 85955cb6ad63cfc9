#!/bin/sh
# usage: lock APP_DIR HOLDER   (prints "locked", holds until stdin ends; 75: held, and by whom)
set -eu
umask 022
mkdir -p "$1"
umask 077
mkdir -p "$1/.ghost"
cd "$1/.ghost"
held() { # no word on stdout unless it holds
	# Ours: the connection that took it has died, and the host has not noticed yet.
	{ IFS= read -r was <holder; } 2>/dev/null || was="a run that left no name"
	[ "$was" != "$2" ] || return 0
	printf '%s\n' "$was" >&2
	exit 75
}
# Bound to this session: whoever holds fd 9 holds the lock, and nobody outlives stdin.
if command -v flock >/dev/null; then
	exec 9>>lock
	flock -n 9 || held "$@"
else
	# The folder is the lock, the name of the file in it the holder's process: a
	# newcomer removes only what belongs to a process that is gone, so it can never
	# take the lock of another newcomer away.
	for old in lock.d/*; do
		pid=${old##*/}
		[ ! -e "$old" ] || grep -q ghost-lock "/proc/$pid/cmdline" 2>/dev/null || rm -f "$old"
	done
	rmdir lock.d 2>/dev/null || :
	mkdir lock.d 2>/dev/null || held "$@"
	# Another may have come between: then both see both, and both give way.
	: >"lock.d/$$" || held "$@"
	[ "$(ls lock.d)" = "$$" ] || { rm -f "lock.d/$$" && held "$@"; }
	trap 'rm -f "lock.d/$$"; rmdir lock.d 2>/dev/null' EXIT
fi
printf '%s\n' "$2" "$$" >holder
echo locked
cat >/dev/null
rm -f holder
