#!/bin/sh
# usage: record_moves RUN STORE [DIR PREVIOUS NEW ASIDE FINGERPRINT MOVED]...
# Puts on disk all that a rollback needs, before any link moves. DIR is a module's folder.
# MOVED is not empty where this run takes up a killed one that had moved the link: then the
# environment that the killed run kept is the one to go back to. What other runs left is
# removed: an environment that was kept, a timer, a note that a timer put links back.
set -eu
run=$1 store=$2
shift 2
. ./parts/flush.sh
umask 077
trap 'rm -f "$dir/.ghost/armed.new"' EXIT
rm -f "${1%/*}/.ghost/timer" "${1%/*}/.ghost/reverted"
while [ $# -gt 0 ]; do
	dir=$1 previous=$2 new=$3 aside=$4 fingerprint=$5 moved=$6
	shift 6
	# Where the disk is full, dash's own printf says "I/O error"; cat says what it is.
	printf '%s\n' "run=$run" "store=$store" "previous=$previous" "new=$new" \
		"aside=$aside" "fingerprint=$fingerprint" | cat >"$dir/.ghost/armed.new"
	[ "$moved" ] || rm -f "$dir/.ghost/${new##*/}/environment.before"
	mv "$dir/.ghost/armed.new" "$dir/.ghost/armed"
done
flush -f "$dir/.ghost"
