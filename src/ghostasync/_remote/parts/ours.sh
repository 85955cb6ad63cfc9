#!/bin/sh
# Part of other scripts: folders of ours, for others to read. A mode that is set holds,
# whatever a default ACL of the folder above gives to others.
ours() { # makes the folder $1, and those above it that are not there
	[ ! -d "$1" ] || return 0
	ours "${1%/*}" || return
	mkdir -m 755 "$1" 2>/dev/null || [ -d "$1" ] || mkdir -m 755 "$1"
}
