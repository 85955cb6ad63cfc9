#!/bin/sh
# Part of other scripts, beside owners and ours: the folder of the app's records, which is
# ours alone, becomes this one's, and is made where it is not there.
if [ "$me" = 0 ]; then
	foreign=$(strangers "$app_dir/.ghost")
	[ -z "$foreign" ] || { echo "in the hands of others: $foreign" >&2 && exit 1; }
fi
ours "$app_dir" || exit
umask 077
mkdir -p "$app_dir/.ghost" || exit
[ ! -L "$app_dir/.ghost" ] || { echo "$app_dir/.ghost is a link" >&2 && exit 1; }
cd "$app_dir/.ghost" || exit
chmod 700 . 2>/dev/null || :
