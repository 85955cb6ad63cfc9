#!/bin/sh
# Part of receive: whether this folder, which tar has just left, is what was packaged.
# The decoder has compared its checksum with the stream, and tar has not complained; so
# one comparison of all paths with the manifest completes the proof. Where $proof is
# content, or the decoder has no checksum, every byte is read back as well.
# shellcheck disable=SC2086,SC2154  # $tool is words; ghost/seal assigns the others

# Lists this folder: "MTIME f MODE SIZE PATH", "d 755 PATH" or "l PATH<tab>TARGET".
# shellcheck disable=SC2016  # meant for the inner sh
found() {
	case $(find . -prune -printf %Ts 2>/dev/null) in
	'' | *[!0-9-]*)
		find . -type d -exec stat -c 'd %a %n' {} + -o -type l -exec sh -c '
			for link; do
				printf "l %s\t" "$link"
				readlink -n "$link"
				echo
			done' sh {} + -o -exec stat -c '%Y f %04a %s %n' {} +
		;;
	*)
		find . -type d -printf 'd %m %p\n' -o -type l -printf 'l %p\t%l\n' \
			-o -printf '%Ts %y %04m %s %p\n'
		;;
	esac
}

# Lists the manifest the same way, by $edit; names that it has to escape are unescaped.
wanted() {
	sed -e '/\\/d' -e "$edit" ../ghost/manifest
	sed -e '/\\/!d' -e "$edit" ../ghost/manifest |
		while IFS= read -r line; do printf '%b\n' "$line"; done
}
# Compares one digest of the whole list; where it differs, or no tool here makes it, line by
# line, which also says what is wrong.
metadata() {
	is=$(found | sort | sha256sum 2>/dev/null) || :
	[ "${is%% *}" != "$listing" ] || return 0
	[ "$(found | sort)" = "$(wanted | sort)" ] ||
		die "not as packaged: $({ found && wanted; } | sort | uniq -u | few)"
}

# Whether the decoder refuses an empty stream whose checksum is wrong.
refuses() {
	empty='\037\213\10\0\0\0\0\0\0\3\3\0\1\0\0\0\0\0\0\0'
	[ "$decoder" = gzip ] || empty='(\265/\375$\0\1\0\0\0\0\0\0'
	# shellcheck disable=SC2059  # its escapes are meant
	! printf "$empty" | "$decoder" -dc >/dev/null 2>&1
}

# Compares one digest of all digests, but for names with a backslash or a control character,
# which each tool prints in its own way: such files are checked by ghost/settle. $tool is
# the first tool that works here.
contents() {
	hasher ../digest.py
	[ "$tool" ] || { echo "warning: no sha256 tool here, so contents were not read" && return; }
	is=$(find . -type f ${odd:+! -path '*[\\[:cntrl:]]*'} -exec $tool {} + |
		sed 's/ [ *]/ /' | sort | $tool)
	[ "${is%% *}" != "$contents" ] || return 0
	sed -n "$digests" ../ghost/manifest |
		while IFS= read -r line; do check "${line%% *}" "${line#* }"; done
}
check() { # whether the digest of $2 is $1
	[ "$tool" ] || return 0
	is=$($tool <"$2")
	[ "${is%% *}" = "$1" ] || die "damaged on the way: $2"
}

verify() {
	tool=
	# shellcheck disable=SC1091  # comes with the archive
	. ../ghost/seal
	metadata
	if [ "$proof" = content ] || ! refuses; then contents; fi
}
