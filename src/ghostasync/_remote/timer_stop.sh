#!/bin/sh
# usage: timer_stop APP_DIR PATIENCE
# Ends the timer, and fails where it has put the links back: prints when, and whether all
# went well. A timer that is at it is waited for, PATIENCE seconds at most.
set -eu
app_dir=$1 patience=$2
cd "$app_dir/.ghost"
# The timer renames the same file: only one of the two can succeed.
if mv timer disarmed 2>/dev/null; then
	rm -f disarmed timer.sh
	exit
fi
while [ -f reverting ] && [ "$patience" -gt 0 ]; do
	patience=$((patience - 1))
	sleep 1
done
[ ! -f reverting ] || { echo "it is putting its links back by itself" >&2 && exit 1; }
[ -f reverted ] || exit 0
read -r _ bad at <reverted
case $bad in
0) how= ;;
*) how=', but not all went well: see .ghost/timer.log' ;;
esac
echo "it put its links back by itself, $(($(date +%s) - at)) s ago$how" >&2
exit 1
