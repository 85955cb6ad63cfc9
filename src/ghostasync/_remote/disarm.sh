#!/bin/sh
# usage: disarm APP_DIR PATIENCE   (ends a timer; fails where it has put the links back)
# One that is about to is waited for. Prints whether its post-deploys failed, and when.
set -eu
cd "$1/.ghost"
patience=$2
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
echo "it put its links back by itself, $(($(date +%s) - at)) s ago$([ "$bad" = 0 ] || echo ', but not all went well: see .ghost/timer.log')" >&2
exit 1
