#!/bin/sh
# usage: try APP_DIR PATH [SCRIPT FIRST TARGET]...   (prints facts, one KEY=VALUE a line)
# Tries what a deploy will need, and leaves nothing behind. SCRIPT is the name of a script,
# FIRST its first line, TARGET that of its module; PATH is theirs, empty for the usual one.
# Ends with stdin: a deploy has its lock at the same time as another command.
set -u
export LC_ALL=C # the controller reads what tools complain of
app_dir=$1 path=$2
shift 2
. ./parts/above.sh
. ./parts/start.sh
try=${TMPDIR:-/tmp}
# shellcheck disable=SC2154  # the nonce comes with the frame
try=$try/ghost-try.$nonce
why=$({ mkdir "$try" && dd if=/dev/zero of="$try/file" bs=65536 count=1; } 2>&1) ||
	printf 'tmp=%s %s\n' "${try%/*}" "$(printf '%s\n' "$why" | head -n 1)"
rm -rf "$try"
at=$app_dir/.ghost
[ -d "$at" ] || at=$(above "$at")
mount=$(noexec "$at")
[ -z "$mount" ] || printf 'noexec= %s\n' "$mount"
while [ $# -gt 0 ]; do
	case $mount$2 in /*'#!'*) printf 'noexec=%s %s\n' "$1" "$mount" ;; esac
	why=$(unfit "$2" "${path:-$PATH}" "$3")
	[ -z "$why" ] || printf 'unfit=%s %s\n' "$1" "$why"
	shift 3
done
cat >/dev/null
