#!/bin/sh
# usage: fetch URL SECONDS
# Exits 0 where the URL answers with success within SECONDS; else prints why not.
set -u
url=$1 seconds=$2
if command -v curl >/dev/null; then
	exec curl -fsS -o /dev/null -m "$seconds" -- "$url" 2>&1
elif command -v wget >/dev/null; then
	exec wget -q -O /dev/null -T "$seconds" -- "$url" 2>&1
elif command -v python3 >/dev/null; then
	exec python3 -c 'import sys, urllib.request as u
u.urlopen(sys.argv[1], timeout=float(sys.argv[2]))' "$url" "$seconds" 2>&1
fi
echo "verify.url needs curl, wget or python3 on the host"
exit 1
