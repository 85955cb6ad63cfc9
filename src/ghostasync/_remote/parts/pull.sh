#!/bin/sh
# Part of receive, beside extract and download: the archive is fetched from $url.
# shellcheck disable=SC2086,SC2154  # $tool is words; the others assign the rest
pull() { # the sha256 of the archive is to be $1; gives up after $2 seconds of silence
	hasher ./digest.py
	[ "$tool" ] || die "nothing here makes a sha256: install coreutils or openssl"
	mkfifo pipe
	$tool <pipe >digest &
	# All of it is read in any case: its digest says more than tar's last words.
	{ download "$2" 2>said || echo "$nonce" >>said; } | tee pipe | {
		(extract) 2>told || echo "$nonce" >>told
		cat >/dev/null
	}
	wait
	! grep -qs "$nonce" said || die "not fetched from the store: $(grep -v "$nonce" said | few)"
	read -r is _ <digest
	[ "$is" = "$1" ] || die "what the store has is not what was packaged: its sha256 is $is"
	! grep -qs "$nonce" told || die "$(grep -v "$nonce" told)"
}
