#!/bin/sh
# usage: arm RUN STORE [MODULE_DIR PREVIOUS NEW ASIDE FINGERPRINT]...
# Puts on disk what a rollback needs, before any link moves.
set -eu
umask 077
run=$1 store=$2
shift 2
while [ $# -gt 0 ]; do
	dir=$1
	printf '%s\n' "run=$run" "store=$store" "previous=$2" "new=$3" "aside=$4" "fingerprint=$5" >"$dir/.ghost/armed.new"
	mv "$dir/.ghost/armed.new" "$dir/.ghost/armed"
	shift 5
done
sync -f "$dir/.ghost" 2>/dev/null || sync
