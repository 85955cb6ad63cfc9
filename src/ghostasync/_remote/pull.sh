#!/bin/sh
# usage: pull DIR ID DECODER OWNER PROOF SHA256 SECONDS   (an address is on stdin)
# As receive, of an archive that this host fetches from the address; SHA256 is the
# archive's. Gives up after SECONDS in which no byte came. Lines behind the address are
# headers, for curl alone.
# shellcheck disable=SC2034,SC2086,SC2154  # the parts use and assign them; $tool is words
set -eu
dir=$1 id=$2 decoder=$3 owner=$4 proof=$5 sha256=$6 seconds=$7
IFS= read -r url
headers=$(sed 's/.*/header = "&"/')
. ./parts/incoming.sh
. ./parts/download.sh

hasher ./digest.py
[ "$tool" ] || die "nothing here makes a sha256: install coreutils or openssl"
mkfifo pipe
$tool <pipe >digest &
# All of it is read in any case: its digest says more than tar's last words.
{ download "$seconds" 2>said || echo "$nonce" >>said; } | tee pipe | {
	(extract) 2>told || echo "$nonce" >>told
	cat >/dev/null
}
wait
! grep -qs "$nonce" said || die "not fetched from the store: $(grep -v "$nonce" said | few)"
read -r is _ <digest
[ "$is" = "$sha256" ] || die "what the store has is not what was packaged: its sha256 is $is"
! grep -qs "$nonce" told || die "$(grep -v "$nonce" told)"
. ./parts/whole.sh
