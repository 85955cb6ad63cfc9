#!/bin/sh
# usage: timer_start APP_DIR ID NBYTES   (the timer's text, of NBYTES, is on stdin)
# Starts the timer beside this script, so that it outlives this session and its login.
set -eu
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
# logind may end the processes that a login leaves behind (KillUserProcesses), but no unit.
if [ "$(id -u)" = 0 ] && systemd-run --quiet --collect -p KillMode=process \
	--setenv=HOME="$HOME" --unit="ghost-timer-$id" /bin/sh "$PWD/timer.sh" 2>/dev/null; then
	exit
fi
trap '' HUP
setsid=$(command -v setsid || :)
# shellcheck disable=SC2086  # no word at all on a host without setsid
$setsid /bin/sh "$PWD/timer.sh" </dev/null >/dev/null 2>&1 &
