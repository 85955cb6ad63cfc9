#!/bin/sh
# usage: timer_start APP_DIR ID NBYTES   (the timer's text, of NBYTES, is on stdin)
# Starts the timer beside this script, so that it outlives this session and its login.
set -eu
. ./parts/detach.sh
app_dir=$1 id=$2 nbytes=$3
mask=$(umask)
umask 077
cd "$app_dir/.ghost"
cat >timer.sh.new
[ "$(wc -c <timer.sh.new)" -eq "$nbytes" ] ||
	{ echo "the timer arrived cut short" >&2 && exit 1; }
mv timer.sh.new timer.sh
rm -f reverted reverting
printf '%s\n' "$id" >timer
umask "$mask"
detach "timer-$id" "$PWD/timer.sh"
