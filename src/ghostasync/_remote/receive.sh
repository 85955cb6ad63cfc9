#!/bin/sh
# usage: receive DIR ID DECODER OWNER PROOF   (the archive is on stdin)
# DIR: the module's folder. DECODER: zstd or gzip. OWNER: keep, as root, or drop. PROOF:
# metadata or content.
# Extracts the archive beside, proves it, flushes, then renames: a release is whole or
# absent. stdout: nothing, or lines that start with "warning:".
# shellcheck disable=SC2034  # the parts use them
set -eu
dir=$1 id=$2 decoder=$3 owner=$4 proof=$5
. ./parts/incoming.sh
extract
. ./parts/whole.sh
