#!/bin/sh
# usage: receive MODULE_DIR ID DECODER OWNER SHARED...   (the archive is on stdin)
# DECODER: zstd or gzip. OWNER: keep, as root, or drop. SHARED: d:PATH or f:PATH.
# Extracts beside, checks, links what is shared, then renames: a release is whole or
# absent. stdout: nothing, or a line that starts with "warning:".
# shellcheck disable=SC2086  # $tool is words
set -eu
umask 022
# Without TZ, find looks for the time zone with every file.
export LC_ALL=C TZ=UTC0
dir=$1 id=$2 decoder=$3 owner=$4
shift 4
in=$dir/.ghost/$id.incoming
die() {
	printf '%s\n' "$*" >&2
	exit 1
}
wipe() { rm -rf "$1" 2>/dev/null || { chmod -R u+rwx "$1" && rm -rf "$1"; }; }
flush() { sync "$@" 2>/dev/null || sync; }
few() { head -n 3 | tr '\n' ';'; }

# What ghost/settle calls.
check() {
	[ "$tool" ] || return 0
	is=$($tool <"$2")
	[ "${is%% *}" = "$1" ] || die "damaged on the way: $2"
}
at() {
	when=$1
	shift
	touch -h -d "@$when" "$@" || exit 1
}
mode() { chmod "$@" || exit 1; }

# What is here: "MTIME f MODE SIZE PATH", "d 755 PATH" or "l PATH<tab>TARGET".
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
# The same from the manifest; what that has to escape gets its bytes back.
wanted() {
	edit='
		s/^[^ ]* d [^ ]* [^ ]* - /d 755 /
		s/^[^ ]* l [^ ]* [^ ]* - /l /
		s/^\([^ ]* f [^ ]* [^ ]*\) [^ ]* /\1 /
		s/^\([^ ]* f\) ./\1 0/
		s/^\([^ ]* f .\)0/\14/
		s/^\([^ ]* f .\)1/\15/
		s/^\([^ ]* f .\)2/\16/
		s/^\([^ ]* f .\)3/\17/'
	sed -e '1d; /\\/d' -e "$edit" ../ghost/manifest
	sed -e '1d; /\\/!d' -e "$edit" ../ghost/manifest |
		while IFS= read -r odd; do printf '%b\n' "$odd"; done
}
exact() {
	[ "$(found | sort)" = "$(wanted | sort)" ] ||
		die "not as packaged: $({ found && wanted; } | sort | uniq -u | few)"
	sed -n '1d; /\\/d; s/^[^ ]* f [^ ]* [^ ]* \([^ ]*\) /\1 /p' ../ghost/manifest |
		while IFS= read -r line; do check "${line%% *}" "${line#* }"; done
}
# One digest of what is here and of what is in it; $* is what to leave out of the latter.
seal() {
	{
		found
		find . -type f "$@" -exec $tool {} + | sed 's/ [ *]/ /'
	} | sort | $tool
}

own() { [ "$owner" = drop ] || chown -h "$(stat -c %u:%g .)" "$1"; }
# Replaces a path of the release by a link to what outlives it; KIND PATH.
share() {
	rest=$2 over=. to=$dir/shared/$2 closed=
	while [ "$rest" != "${rest#*/}" ]; do
		over=$over/${rest%%/*} rest=${rest#*/}
		[ ! -L "$over" ] || die "shared $2: ${over#*/} is a link"
		[ -d "$over" ] || { mkdir "$over" && own "$over"; }
	done
	from=$over/$rest
	touch -r "$over" ../times
	[ -w "$over" ] || { chmod u+w "$over" && closed=1; }
	if [ ! -e "$to" ] && [ ! -L "$to" ]; then
		mkdir -p "${to%/*}"
		if [ ! -L "$from" ] && test "-$1" "$from"; then
			[ "$1" = f ] || [ -w "$from" ] || chmod u+w "$from"
			wipe "$to.incoming"
			mv "$from" "$to.incoming"
			mv "$to.incoming" "$to"
		elif [ "$1" = d ]; then
			mkdir "$to"
			own "$to"
		fi
	fi
	wipe "$from"
	ln -s "$to" "$from"
	own "$from"
	[ -z "$closed" ] || chmod u-w "$over"
	touch -r ../times "$over"
}

if [ -d "$dir/$id" ]; then
	cat >/dev/null
	exit
fi
mkdir -p "$dir/.ghost"
chmod 700 "$dir/.ghost"
for stale in "$dir"/.ghost/*.incoming; do wipe "$stale"; done
trap 'cd / && wipe "$in"' EXIT
trap 'exit 143' HUP INT PIPE TERM
mkdir "$in"
# Or every folder in it would inherit the bit.
chmod g-s "$in"
cd "$in"

# sh has no pipefail: whichever side fails says so, in a word that no name can hold.
how=-xpof failed=failed:$$
[ "$owner" = drop ] || how=-xpf
umask 0
said=$({ { "$decoder" -dc || echo "$failed" >&2; } | tar "$how" - || echo "$failed" >&2; } 2>&1)
umask 022
case $said in *"$failed"*)
	die "not extracted: $(printf '%s\n' "$said" | grep -v -e "$failed" -e 'time stamp' | few)"
	;;
esac

cd release
echo 'import hashlib as h, sys
[print(h.sha256(open(n, "rb").read()).hexdigest(), "*%s" % n) for n in sys.argv[1:] or [0]]' >../digest.py
for tool in 'openssl dgst -sha256 -r' sha256sum 'shasum -a 256' 'busybox sha256sum' 'python3 ../digest.py' ''; do
	case $($tool </dev/null 2>/dev/null) in e3b0c44298fc1c14*) break ;; esac
done
if [ -z "$tool" ]; then
	echo "warning: no sha256 tool here, so only sizes were checked"
	exact
else
	# Tools print control bytes and backslashes each in their way.
	odd=$(sed -n '/^check /{p;q;}' ../ghost/settle)
	is=$(seal ${odd:+! -path '*[\\[:cntrl:]]*'})
	[ "${is%% *}" = "$(cat ../ghost/seal)" ] || exact
fi
# busybox tar leaves links to root.
[ "$owner" = drop ] || find . -type l -exec chown -h "$(stat -c %u:%g .)" {} +
# shellcheck disable=SC1091  # comes with the archive
. ../ghost/settle
for item; do item=${item%/} && share "${item%%:*}" "${item#*:}"; done

flush -f .
cd ..
wipe "$dir/.ghost/$id"
mv ghost "$dir/.ghost/$id"
mv release "$dir/$id"
flush "$dir" "$dir/.ghost"
