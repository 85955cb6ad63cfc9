#!/bin/sh
# usage: freeze APP_DIR ENDS TEXT
# Has lock refuse all runs but those that go back: TEXT says who wants that and why, ENDS is
# the second since 1970 at which it is over, 0 for never. An empty TEXT ends it now.
set -eu
app_dir=$1 ends=$2 text=$3
umask 022
mkdir -p "$app_dir"
umask 077
mkdir -p "$app_dir/.ghost"
cd "$app_dir/.ghost"
if [ -z "$text" ]; then
	rm -f frozen
	exit
fi
trap 'rm -f frozen.new' EXIT
printf '%s\n' "$text" "$ends" | cat >frozen.new
mv frozen.new frozen
