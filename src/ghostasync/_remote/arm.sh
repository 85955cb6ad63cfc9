#!/bin/sh
# usage: arm RUN STORE [MODULE_DIR PREVIOUS NEW ASIDE FINGERPRINT MOVED]...
# Puts on disk what a rollback needs, before any link moves. A timer of an earlier run
# has nothing to put back any more; nor has an environment that one has kept, unless this
# run takes up one that had MOVED the link (then not empty).
set -eu
umask 077
run=$1 store=$2
shift 2
trap 'rm -f "$dir/.ghost/armed.new"' EXIT
rm -f "${1%/*}/.ghost/timer"
while [ $# -gt 0 ]; do
	dir=$1
	# Where the disk is full, dash's own printf says "I/O error"; cat says what it is.
	printf '%s\n' "run=$run" "store=$store" "previous=$2" "new=$3" "aside=$4" \
		"fingerprint=$5" | cat >"$dir/.ghost/armed.new"
	[ "$6" ] || rm -f "$dir/.ghost/${3##*/}/environment.before"
	mv "$dir/.ghost/armed.new" "$dir/.ghost/armed"
	shift 6
done
sync -f "$dir/.ghost" 2>/dev/null || sync
