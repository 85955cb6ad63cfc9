#!/bin/sh
# usage: execute META NAME SCRIPT ENVIRONMENT MESSAGE [CWD FILE TEXT ENVIRONMENT]...
# Keeps SCRIPT as META/NAME, its ENVIRONMENT and the MESSAGE of a commit beside it, and does
# with the other words what "run" does. META goes at the end, also where the controller has
# gone; one that a host which went down has left is replaced.
set -eu
meta=$1 name=$2 script=$3 environment=$4 message=$5
shift 5
trap 'rm -rf "$meta"' EXIT
{
	mask=$(umask)
	umask 077
	rm -rf "$meta"
	mkdir -p "$meta"
	printf '%s' "$script" | cat >"$meta/$name"
	printf '%s' "$environment" | cat >"$meta/environment"
	printf '%s' "$message" | cat >"$meta/commit_message"
	umask "$mask"
} 2>&1
. ./run.sh
