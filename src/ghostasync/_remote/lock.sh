#!/bin/sh
# usage: lock APP_DIR TRUSTED HOLDER RUN APP STALE PATIENCE [AGAIN] [PASS]
# Prints "locked" and holds the lock until stdin ends; every line there is a beat. Exits 75
# and names the holder where another run has the lock; 76, and names the scripts, where
# scripts of another run have not ended within PATIENCE seconds. With AGAIN, HOLDER had the
# lock before, and gets it only if nobody had it in between. Where a person has frozen the
# app only a run with PASS, which goes back, gets it. TRUSTED: see parts/owners.sh.
#
# How it works. `take` gets a thing that one process at a time can have, and that is free
# when the process ends: fd 9 on a locked file, or a file in a folder. The holder then
# writes down its name and process ("holder") and the time of its last beat ("beat"). A
# newcomer that finds the lock taken reads both. A holder whose beat is more than STALE
# seconds old by this clock (any, where STALE is -1) is ended, and so is a holder of the
# same name: its connection has died, and the host has not noticed yet. One holder at most
# is ended: whoever has the lock after that has just begun, so the newcomer gives up. Each
# script of a run is on the list "scripts", and carries RUN@APP in its command line. With
# the lock in hand, scripts of this run and of a run that was ended are ended; those of any
# other run are waited for. Only a process counts that a file of ours names, by its number
# and the time at which it began: nobody else is ended, or waited for, whatever its name.
# shellcheck disable=SC2013,SC2046,SC2086  # lists of numbers
set -eu
app_dir=$1 trusted=$2 holder=$3 run=$4 app=$5 stale=$6 patience=$7 again=${8-} pass=${9-}
. ./parts/owners.sh
. ./parts/ours.sh
. ./parts/descendants.sh
. ./parts/alive.sh
. ./parts/self.sh
# Not the subshell that this is: its parent is what others have to end.
self=$$
# shellcheck disable=SC2086  # numbers, behind the name
{ read -r stat && born ${stat##*) }; } <"/proc/$$/stat"

# --- Processes: each function prints the numbers of those that are left ------------

scripts() { # of this app, and of the run $1 where it is given
	# shellcheck disable=SC2015  # as it is meant
	while read -r pid start; do
		alive "$pid" "$start" && grep -qs "${1-}@$app" "/proc/$pid/cmdline" || continue
		# Hosts that are containers may see each other's processes: a process with another
		# root is another host's.
		[ ! -e "/proc/$pid/root/" ] || [ "/proc/$pid/root$PWD" -ef . ] || continue
		echo "$pid"
	done <scripts
}
left_behind() { # by a run that is over; but a way back, and a before_switch, go on
	for pid in $(scripts); do
		grep -qsE "(timer|before_switch)@$app" "/proc/$pid/cmdline" || echo "$pid"
	done
}
in_the_way() { # but for this run's own before_switch; a way back may go on beside any
	[ "$pass" ] && own="before_switch@$app" || own="before_switch@$app@$run"
	for pid in $(scripts); do
		grep -qs "$own" "/proc/$pid/cmdline" || echo "$pid"
	done
}
holding() { # the process $1, that began at $2, while it is there
	! alive "$1" "$2" || echo "$1"
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
		name=${old##*/}
		alive "${name%.*}" "${name#*.}" || rm -f "$old"
	done
	rmdir lock.d 2>/dev/null || :
	mine=$self.$began
	mkdir lock.d 2>/dev/null && { true >"lock.d/$mine"; } 2>/dev/null || return 1
	# Another newcomer may have come between: then both see both, and both give way.
	[ "$(ls lock.d)" = "$mine" ] || { rm -f "lock.d/$mine" && return 1; }
	trap 'rm -f "lock.d/$mine"; rmdir lock.d 2>/dev/null' EXIT
}
refuse() { # $1 holds it; a word on stdout would say that we do
	echo "${1:-a run that left no name}" >&2
	exit 75
}
frozen() { # prints who has frozen the app, unless that is over
	{ read -r text && read -r ends; } 2>/dev/null <frozen || return 0
	[ "$ends" -eq 0 ] || [ "$(date +%s)" -lt "$ends" ] || return 0
	printf '%s\n' "$text"
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

. ./parts/enter.sh
if [ -z "$pass$again" ]; then
	text=$(frozen)
	[ -z "$text" ] || refuse "$text"
fi
ended='' age='' tries=3
until take; do
	name='' pid='' start=''
	# A holder writes its beat first and then its name, so the name is read first: then
	# the beat that is read after it is this holder's, or a later one.
	{ read -r name && read -r pid start; } 2>/dev/null <holder || :
	silent=$(silence)
	# Where the holder that is named has gone, another has the lock and is about to write
	# its own name: to refuse now would name a run that is dead.
	alive "$pid" "$start" || [ "$tries" -eq 0 ] || {
		tries=$((tries - 1))
		sleep 1
		continue
	}
	[ -z "$age" ] || refuse "$name"
	require_over "$name" "$silent"
	end holding "$pid" "$start" || :
	ended=$name age=$silent tries=3
done
{ IFS= read -r last || :; } 2>/dev/null <holder || last=
[ -z "$again" ] || [ "$last" = "$holder" ] || refuse "$last"
taken=
# Said only where the run that was ended is the last that held the lock: another may have
# taken it meanwhile and given it back.
if [ "$age" ] && [ "$ended" = "$last" ] && [ "$ended" != "$holder" ]; then
	taken=", taken over from ${ended:-a run that left no name}"
	taken="$taken; its last sign of life was $age s ago"
fi
# The beat before the name: a newcomer that finds an old beat ends the process that holder
# names. Both in place: a rename would need room for a file.
date +%s 1<>beat
# Where the disk is full, dash's own printf says "I/O error"; cat says what it is.
printf '%s\n' "$holder" "$self $began" | cat 1<>holder

# A number, and a time since the start of the machine, may come again once that is another.
read -r boot 2>/dev/null </proc/sys/kernel/random/boot_id || boot=unknown
read -r listed 2>/dev/null <scripts || listed=
[ "$listed" = "$boot" ] || echo "$boot" >scripts || :
# Scripts of a session that has ended end by themselves. Those of a session that has only
# fallen silent do not, and earlier ones of this run have nobody to report to any more.
end scripts "$run" || :
[ -z "$taken" ] || end left_behind || :
until [ -z "$(in_the_way)" ]; do
	[ "$patience" -gt 0 ] || {
		for pid in $(in_the_way); do
			words=$(tr '\000' ' ' <"/proc/$pid/cmdline" | sed 's/.* ghost-/ghost-/')
			printf '%s (pid %s)\n' "$words" "$pid"
		done >&2
		exit 76
	}
	patience=$((patience - 1))
	sleep 1
done
# Nobody on the list is left, or only those that go on beside any run.
[ "$(scripts)" ] || echo "$boot" >scripts || :
# The frame holds a newline back that may begin its closing line: hence the empty line.
printf 'locked %s\n\n' "$self $began$taken"
# A beat that cannot be written, on a disk that is full by now, must not cost the lock.
while read -r _; do date +%s 1<>beat || :; done
