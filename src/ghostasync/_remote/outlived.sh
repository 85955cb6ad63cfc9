#!/bin/sh
# usage: outlived   (the arguments of run.sh, which stands above this one)
# Runs the script, and notes in files beside this one what it prints and how it ends. The
# file that is run is NAME.sh; see outlive.sh.
set -u
GHOST_NAME=${0##*/}
GHOST_NAME=${GHOST_NAME%.sh}
cd "${0%/*}" || exit
# Of two that were started for one run the first one counts.
mkdir "$GHOST_NAME.begun" 2>/dev/null || exit
# META is APP_DIR/MODULE/.ghost/ID.
scripts=../../../.ghost/scripts
. ./parts/enrol.sh
echo "$self $began" >"$GHOST_NAME.begun/pid"
# run ends the script when its stdin ends: of this pipe that is when this process ends.
mkfifo "$GHOST_NAME.pipe" && exec 4<>"$GHOST_NAME.pipe" && exec 5<"$GHOST_NAME.pipe" || exit
rm -f "$GHOST_NAME.pipe" "$0"
# Not in a condition: set -e, which run relies on, means nothing there.
run "$@" <&5 4<&- 5<&- >"$GHOST_NAME.output" 2>&1
printf '%-4s\n' "$?" 1<>"$GHOST_NAME.status"
