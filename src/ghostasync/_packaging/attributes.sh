# Begins ghost/settle where a tree has capabilities, ACLs or attributes to keep: the release,
# this folder, gets those in ghost/attributes, which is as getfattr prints them, and is proven
# to have them and no others.
# shellcheck shell=sh disable=SC2016  # meant for python; die and few come from receive
attributes() {
	if command -v setfattr >/dev/null && command -v getfattr >/dev/null; then
		setfattr --restore=../ghost/attributes || return
		{
			getfattr -hRPd --absolute-names -e hex -m '^(user\.|security\.capability$|system\.posix_acl_)' .
			cat ../ghost/attributes
		} | sed -ne '/^$/!{' -e 'H;d' -e '}' -e 'x;s/\n/ /g;p;s/.*//;x' | sort | uniq -u |
			sed -e 's/^/other than packaged:/' -e 's/\(.\{160\}\).*/\1.../'
	else
		python3 -c '
import os, re, sys

def plain(text):
    return re.sub(rb"\\(\d{3})", lambda octal: bytes([int(octal[1], 8)]), text)

def found(path):
    names = [os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False)]
    ours = rb"user[.]|security[.]capability$|system[.]posix_acl_"
    return {name: os.getxattr(path, name) for name in names if re.match(ours, name)}

wanted = {}
for block in open("../ghost/attributes", "rb").read().split(b"\n\n")[:-1]:
    first, *lines = block.split(b"\n")
    pairs = [line.rsplit(b"=0x", 1) for line in lines]
    path = plain(first[len("# file: "):])
    wanted[path] = {plain(name): bytes.fromhex(text.decode()) for name, text in pairs}
try:
    for path, those in wanted.items():
        for name, value in those.items():
            os.setxattr(path, name, value)
    for folder, _, files in os.walk(b"."):
        for path in [folder, *[folder + b"/" + name for name in files]]:
            if found(path) != wanted.get(path, {}):
                print("other than packaged:", path)
except OSError as exc:
    sys.exit(str(exc))'
	fi
}
said=$(attributes 2>&1) ||
	die "attributes not set (capabilities take root): $(printf '%s\n' "$said" | few)"
[ -z "$said" ] || die "attributes $(printf '%s\n' "$said" | few)"
