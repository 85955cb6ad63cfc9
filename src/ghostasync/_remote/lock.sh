#!/bin/sh
# usage: lock APP_DIR HOLDER RUN APP STALE PATIENCE [AGAIN]
# Prints "locked" and holds until stdin ends; every line there is a beat. 75: somebody else
# holds it, and who. 76: what another run left running has not ended within PATIENCE
# seconds, and what that is. Where there is AGAIN, HOLDER had the lock before, and gets it
# only if nobody had it in between.
#
# How it works. `take` gets what only one process can have, and loses it when that process
# ends: fd 9 on a locked file, or a file in a folder. Its owner then writes down its name
# and process ("holder") and the time of its last beat ("beat"). Whoever comes while the
# lock is taken reads both. A holder whose beat is more than STALE seconds old by this
# clock (any, where STALE is -1) is ended, and so is one of the same name: its connection
# has died, and the host has not noticed yet. Then the newcomer tries again, once: whoever
# has it by now is a newcomer too. Each script of a run carries RUN@APP in its command
# line: with the lock in hand, those of this run and of a run that was ended are ended;
# what any other run has left is waited for.
# shellcheck disable=SC2013,SC2046,SC2086  # lists of numbers
set -eu
app_dir=$1 holder=$2 run=$3 app=$4 stale=$5 patience=$6 again=${7-}
. ./parts/descendants.sh

# --- Processes: each prints the numbers of those that are left --------------------

scripts() { # of this app, and of the run $1 where it is given
	# In brackets, or grep would find itself.
	for file in $(grep -ls "${1-}[@]$app" /proc/[0-9]*/cmdline); do
		! grep -qs ghost-lock "$file" || continue
		pid=${file#/proc/} pid=${pid%/*}
		# Of another root, where hosts see each other's processes: not of this host.
		[ ! -e "/proc/$pid/root/" ] || [ "/proc/$pid/root$PWD" -ef . ] || continue
		echo "$pid"
	done
}
left_behind() { # by a run that is over, but for a host on its own way back
	for pid in $(scripts); do
		grep -qs "timer[@]$app" "/proc/$pid/cmdline" || echo "$pid"
	done
}
holding() { # $1 while it holds a lock: the process that was judged, and no later one
	! grep -qs ghost-lock "/proc/$1/cmdline" || echo "$1"
}
end() { # ends what the command $* prints, with all below it
	for signal in TERM '' '' '' '' '' '' KILL '' ''; do
		pids=$("$@")
		[ "$pids" ] || return 0
		[ -z "$signal" ] || kill -s "$signal" $(descendants $pids) 2>/dev/null || :
		sleep 0.1 2>/dev/null || sleep 1
		[ "$("$@")" ] || return 0
		sleep 1
	done
	return 1
}

# --- The lock ---------------------------------------------------------------------

take() {
	if command -v flock >/dev/null; then
		exec 9>>lock
		flock -n 9
		return
	fi
	# The folder is the lock, the name of the file in it the holder's process: a
	# newcomer removes only what belongs to a process that is gone, so it can never
	# take the lock of another newcomer away.
	for old in lock.d/*; do
		[ ! -e "$old" ] || grep -qs ghost-lock "/proc/${old##*/}/cmdline" || rm -f "$old"
	done
	rmdir lock.d 2>/dev/null || :
	mkdir lock.d 2>/dev/null && { true >"lock.d/$$"; } 2>/dev/null || return 1
	# Another may have come between: then both see both, and both give way.
	[ "$(ls lock.d)" = "$$" ] || { rm -f "lock.d/$$" && return 1; }
	trap 'rm -f "lock.d/$$"; rmdir lock.d 2>/dev/null' EXIT
}
refuse() { # $1 holds it; no word on stdout unless we do
	echo "${1:-a run that left no name}" >&2
	exit 75
}
silence() { # prints the age of a beat, in seconds
	beat=$(cat beat 2>/dev/null || :)
	case $beat in '' | *[!0-9]*) beat=0 ;; esac
	echo $(($(date +%s) - beat))
}
require_over() { # goes on where the holder $1, silent for $2 seconds, may be ended
	[ "$1" != "$holder" ] || return 0
	[ -z "$again" ] || refuse "$1"
	[ "$stale" -lt 0 ] || [ "$2" -gt "$stale" ] || refuse "$1"
}

umask 022
mkdir -p "$app_dir"
umask 077
mkdir -p "$app_dir/.ghost"
cd "$app_dir/.ghost"
ended='' age='' tries=3
until take; do
	name='' pid=''
	# In this order: who has its name there has its beat there, too; and while its process
	# is there, the beat is nobody else's.
	{ read -r name && read -r pid; } 2>/dev/null <holder || :
	silent=$(silence)
	# Where the one that is named has gone, another has it and is about to say so.
	[ "$(holding "$pid")" ] || [ "$tries" -eq 0 ] || {
		tries=$((tries - 1))
		sleep 1
		continue
	}
	[ -z "$age" ] || refuse "$name"
	require_over "$name" "$silent"
	end holding "$pid" || :
	ended=$name age=$silent tries=3
done
last=$(sed -n 1p holder 2>/dev/null || :)
[ -z "$again" ] || [ "$last" = "$holder" ] || refuse "$last"
taken=
# Unless another had it in between, and gave it back.
if [ "$age" ] && [ "$ended" = "$last" ] && [ "$ended" != "$holder" ]; then
	taken=", taken over from ${ended:-a run that left no name}"
	taken="$taken; its last sign of life was $age s ago"
fi
# The beat first: who finds an old one ends the process that holder names.
date +%s 1<>beat
# Where the disk is full, dash's own printf says "I/O error"; cat says what it is.
printf '%s\n' "$holder" "$$" | cat 1<>holder

# Scripts of a session that has ended end by themselves; those of one that has only fallen
# silent do not, and ours of before have nobody to report to any more.
end scripts "$run" || :
[ -z "$taken" ] || end left_behind || :
until [ -z "$(scripts)" ]; do
	[ "$patience" -gt 0 ] || {
		for pid in $(scripts); do
			words=$(tr '\000' ' ' <"/proc/$pid/cmdline" | sed 's/.* ghost-/ghost-/')
			printf '%s (pid %s)\n' "$words" "$pid"
		done >&2
		exit 76
	}
	patience=$((patience - 1))
	sleep 1
done
echo "locked $$$taken"
# In place: a disk that is full by now must not cost the lock.
while read -r _; do date +%s 1<>beat || :; done
