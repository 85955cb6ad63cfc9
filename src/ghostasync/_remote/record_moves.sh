#!/bin/sh
# usage: record_moves APP_DIR GENERATION RUN OUTCOME [DIR NEW KEPT RECORD]...
# Puts on disk all that a rollback needs, before any link moves: first the fence, then for
# each module its activation record, RECORD below a line with its OUTCOME. DIR is the
# module's folder, NEW the folder of its release. KEPT is not empty where an environment
# that was kept is the one to go back to: a killed run, which this one takes up, kept it.
# A GENERATION that is not higher than the fence is refused, but for the RUN that wrote it.
# What other runs left is removed: a timer, a note that a timer put links back.
set -eu
app_dir=$1 generation=$2 run=$3 outcome=$4
shift 4
. ./parts/flush.sh
umask 077
new=$app_dir/.ghost/fence.new
trap 'rm -f "$new"' EXIT
number='' whose=''
{ read -r number whose; } 2>/dev/null <"$app_dir/.ghost/fence" || :
if [ "$number $whose" != "$generation $run" ]; then
	[ "${number:-0}" -lt "$generation" ] || {
		echo "run $whose moved links here as number $number: ${generation} is too late" >&2
		exit 1
	}
	# Where the disk is full, dash's own printf says "I/O error"; cat says what it is.
	printf '%s\n' "$generation $run" | cat >"$new"
	mv "$new" "$app_dir/.ghost/fence"
fi
for left in "$app_dir/.ghost/timer" "$app_dir/.ghost/reverted"; do
	[ ! -e "$left" ] || rm -f "$left"
done
while [ $# -gt 0 ]; do
	dir=$1 release=$2 kept=$3 record=$4
	shift 4
	[ -d "$dir/.ghost/activations" ] || mkdir "$dir/.ghost/activations"
	new=$dir/.ghost/activations/$generation.new
	# The outcome has a fixed width, so that it can be changed in place on a full disk.
	printf 'outcome=%-8s\n%s\n' "$outcome" "$record" | cat >"$new"
	before=$dir/.ghost/${release##*/}/environment.before
	[ "$kept" ] || [ ! -e "$before" ] || rm -f "$before"
	mv "$new" "${new%.new}"
done
trap - EXIT
flush -f "$app_dir/.ghost"
