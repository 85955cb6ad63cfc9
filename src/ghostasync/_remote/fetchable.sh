#!/bin/sh
# usage: fetchable SECONDS   (an address of the store is on stdin)
# Tells whether this host can fetch from the store: one byte, within SECONDS. stdout:
# nothing.
set -eu
seconds=$1
IFS= read -r url
. ./parts/download.sh
byte=$(download "$seconds" 0-0 | wc -c)
[ "$byte" -eq 1 ] && exit
# Where nothing came, the tool has said why.
[ "$byte" -eq 0 ] || echo "$byte bytes came in place of one" >&2
exit 1
