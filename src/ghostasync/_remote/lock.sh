#!/bin/sh
# usage: lock APP_DIR HOLDER RUN APP STALE PATIENCE [AGAIN]
# Prints "locked" and holds until stdin ends; every line there is a beat. 75: somebody else holds it, and who. 76: what another run
# left running has not ended within PATIENCE seconds, and what that is.
# RUN@APP is the word by which this run's scripts are known. A holder whose last beat is
# more than STALE seconds old by this clock is ended and succeeded; -1 means any holder.
# AGAIN: HOLDER had the lock before, and gets it only if nobody had it in between.
# shellcheck disable=SC2013,SC2046,SC2086  # lists of numbers
set -eu
umask 022
mkdir -p "$1"
umask 077
mkdir -p "$1/.ghost"
cd "$1/.ghost"
who=$2 run=$3 app=$4 stale=$5 patience=$6 again=${7-} taken='' over='' ended=
# Scripts of this app, or of this run alone; in brackets, or grep would find itself.
scripts() {
	for file in $(grep -ls "${1-}[@]$app" /proc/[0-9]*/cmdline); do
		! grep -qs ghost-lock "$file" || continue
		pid=${file#/proc/} pid=${pid%/*}
		# Of another root, where hosts see each other's processes: not of this host.
		[ ! -e "/proc/$pid/root/" ] || [ "/proc/$pid/root$PWD" -ef . ] || continue
		echo "$pid"
	done
}
ours() { scripts "$run"; }
others() { # but for a host on its own way back: that is waited for
	for pid in $(scripts); do
		grep -qs "timer[@]$app" "/proc/$pid/cmdline" || echo "$pid"
	done
}
holder() { # the process that was judged, and no later one
	pid=$named
	! grep -qs ghost-lock "/proc/$pid/cmdline" || echo "$pid"
}
. ./family.sh
end() { # ends what $1 lists, with all below it
	for signal in TERM '' '' '' '' '' '' KILL '' ''; do
		left=$($1)
		[ "$left" ] || return 0
		[ -z "$signal" ] || kill -s "$signal" $(family $left) 2>/dev/null || :
		sleep 0.1 2>/dev/null || sleep 1
		[ "$($1)" ] || return 0
		sleep 1
	done
	return 1
}
# Bound to this session: whoever holds fd 9 holds the lock, and nobody outlives stdin.
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
held() { # no word on stdout unless it holds
	echo "${was:-a run that left no name}" >&2
	exit 75
}
succeed() { # ends the holder, if it is silent or ours
	[ -z "$again" ] || [ "$was" = "$who" ] || held
	case $beat in '' | *[!0-9]*) beat=0 ;; esac
	age=$(($(date +%s) - beat))
	# Ours: the connection that took it has died, and the host has not noticed yet.
	[ "$was" = "$who" ] || [ "$stale" -lt 0 ] || [ "$age" -gt "$stale" ] || held
	end holder || :
	over=1 ended=$was
	[ "$was" = "$who" ] || taken=", taken over from ${was:-a run that left no name}; its last sign of life was $age s ago"
}
tries=3
until take; do
	was='' named=''
	# In this order: who has its name there has its beat there, too; and while its process
	# is there, the beat is nobody else's.
	{ read -r was && read -r named; } 2>/dev/null <holder || :
	beat=$(cat beat 2>/dev/null || :)
	# Where the one that is named has gone, another has it and is about to say so.
	[ "$(holder)" ] || [ "$tries" -eq 0 ] || {
		tries=$((tries - 1))
		sleep 1
		continue
	}
	# One is enough: whoever has it now is another newcomer, or cannot be ended.
	[ -z "$over" ] || held
	succeed
	tries=3
done
last=$(sed -n 1p holder 2>/dev/null || :)
[ -z "$again" ] || [ "$last" = "$who" ] || { was=$last && held; }
[ "$ended" = "$last" ] || taken= # another had it in between, and gave it back
# The beat first: who finds an old one ends the process that holder names.
date +%s 1<>beat
# Where the disk is full, dash's own printf says "I/O error"; cat says what it is.
printf '%s\n' "$who" "$$" | cat 1<>holder
# Scripts of a session that has ended end by themselves; those of one that has only fallen
# silent do not, and ours of before have nobody to report to any more.
end ours || :
[ -z "$taken" ] || end others || :
until [ -z "$(scripts)" ]; do
	[ "$patience" -gt 0 ] || {
		for pid in $(scripts); do
			printf '%s (pid %s)\n' "$(tr '\000' ' ' <"/proc/$pid/cmdline" | sed 's/.* ghost-/ghost-/')" "$pid"
		done >&2
		exit 76
	}
	patience=$((patience - 1))
	sleep 1
done
echo "locked $$$taken"
# In place: a disk that is full by now must not cost the lock.
while read -r _; do date +%s 1<>beat || :; done
