#!/bin/sh
# usage: pull DIR ID DECODER OWNER PROOF SHA256 SECONDS   (an address is on stdin)
# As receive, of an archive that this host fetches from the address; SHA256 is the
# archive's. Gives up after SECONDS in which no byte came. Lines behind the address are
# headers, for curl alone.
#
# Others may write to the store: no byte is handed to tar before all are proven, so the
# archive is on the disk for a while, in a folder of its own.
# shellcheck disable=SC2034,SC2086,SC2154  # the parts use and assign them; $tool is words
set -eu
dir=$1 id=$2 decoder=$3 owner=$4 proof=$5 sha256=$6 seconds=$7
IFS= read -r url
headers=$(sed 's/.*/header = "&"/')
. ./parts/incoming.sh
. ./parts/download.sh

apart=$dir/.ghost/$id.fetched.incoming
trap 'cd / && wipe "$in" && wipe "$apart"' EXIT
(umask 077 && mkdir "$apart")
hasher "$apart/digest.py"
[ "$tool" ] || die "nothing here makes a sha256: install coreutils or openssl"
download "$seconds" >"$apart/archive" 2>"$apart/said" ||
	die "not fetched from the store: $(few <"$apart/said")"
is=$($tool <"$apart/archive")
[ "${is%% *}" = "$sha256" ] ||
	die "what the store has is not what was packaged: its sha256 is ${is%% *}"
extract <"$apart/archive"
wipe "$apart"
. ./parts/whole.sh
