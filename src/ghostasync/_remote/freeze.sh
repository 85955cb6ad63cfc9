#!/bin/sh
# usage: freeze APP_DIR TRUSTED ENDS TEXT
# Has lock refuse all runs but those that go back: TEXT says who wants that and why, ENDS is
# the second since 1970 at which it is over, 0 for never. An empty TEXT ends it now.
set -eu
app_dir=$1 trusted=$2 ends=$3 text=$4
. ./parts/owners.sh
. ./parts/ours.sh
. ./parts/enter.sh
if [ -z "$text" ]; then
	rm -f frozen
	exit
fi
trap 'rm -f frozen.new' EXIT
printf '%s\n' "$text" "$ends" | cat >frozen.new
mv frozen.new frozen
