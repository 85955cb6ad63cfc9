#!/bin/sh
# Part of other scripts: folders that are there.
above() { # the nearest parent of $1 that exists
	up=${1%/*}
	until [ -d "${up:-/}" ]; do up=${up%/*}; done
	printf '%s' "${up:-/}"
}
