#!/bin/sh
# Part of other scripts: $tool becomes the first tool that makes a sha256 here, or empty.
# shellcheck disable=SC2086  # $tool is words
hasher() { # keeps a tool of its own at $1, where python3 is the one
	echo 'import hashlib as h, sys
[print(h.sha256(open(n, "rb").read()).hexdigest(), "*%s" % n) for n in sys.argv[1:] or [0]]' >"$1"
	for tool in 'openssl dgst -sha256 -r' sha256sum 'shasum -a 256' 'busybox sha256sum' \
		"python3 $1" ''; do
		case $($tool </dev/null 2>/dev/null) in e3b0c44298fc1c14*) return ;; esac
	done
}
