#!/bin/sh
# usage: execute META NAME SCRIPT ENVIRONMENT MESSAGE CWD FILE TEXT ENVIRONMENT
# Keeps SCRIPT as META/NAME, with its ENVIRONMENT and the MESSAGE of a commit beside it, and
# does what "run" does with the rest. META goes when the script has ended. A controller that
# is killed ends the script, and META goes as well; one that a killed host has left is
# replaced by the next.
set -eu
meta=$1
trap 'rm -rf "$meta"' EXIT
{
	mask=$(umask)
	umask 077
	rm -rf "$meta"
	mkdir -p "$meta"
	printf '%s' "$3" | cat >"$meta/$2"
	printf '%s' "$4" | cat >"$meta/environment"
	printf '%s' "$5" | cat >"$meta/commit_message"
	umask "$mask"
} 2>&1
shift 5
. ./run.sh
