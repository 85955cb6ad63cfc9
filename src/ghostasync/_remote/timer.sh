#!/bin/sh
# usage: timer ID APP_DIR HOLDER SECONDS PATIENCE APP
# Puts the links back where HOLDER's run gives no beat for SECONDS. A post-deploy gets
# PATIENCE seconds; APP is the word by which other runs find this process. restore and run
# are the scripts of these names, which stand above this one in the file that is run.
#
# How it works. Once a second the timer looks whether the beat of its run has changed. While
# another run has the host, that run decides, and the timer waits. The file "timer" holds
# the id of the timer that counts: a timer ends when it finds another id there, or none.
# After SECONDS of silence it renames the file. rename(2) succeeds for one of two only, this
# timer or timer_stop of the run, so exactly one of them has the links from then on.
set -u
. ./parts/alive.sh
id=$1 app_dir=$2 holder=$3 seconds=$4 patience=$5 app=$6
cd "$app_dir/.ghost" || exit
heard() { # notes whether the run in charge has been heard of
	{ read -r name && read -r pid start; } 2>/dev/null <holder || return
	if [ "$name" = "$holder" ]; then
		beat=$(cat beat 2>/dev/null)
		[ "$beat" = "${old-}" ] || { old=$beat && quiet=0; }
	elif alive "$pid" "$start"; then
		quiet=0
	fi
}
activate() { # runs the post-deploy of what $1 leads to again
	old=$(readlink "$1") dir=${old%/*}
	meta=$dir/.ghost/${old##*/}
	records=$dir/.ghost/activations
	last=$(cd "$records" && printf '%s\n' *[0-9] | sort -n | tail -n 1)
	failed=$(sed -n 's/^release=//p' "$records/$last")
	# shellcheck disable=SC1091  # written by environment.sh
	text=$(. "$meta/environment" >/dev/null 2>&1 && printf '%s' "${ghost_activate-}")
	file=$meta/post_deploy
	[ -z "$text" ] || file=
	rm -f timer.pipe
	mkfifo timer.pipe
	# run ends the post-deploy when its stdin ends: sleep holds the pipe open for as long
	# as the post-deploy may take.
	sleep "$patience" >timer.pipe &
	sleeper=$! since=$(began_at "$!")
	# Not in a condition: set -e, which run relies on, means nothing there.
	run "$1" "$file" "$text" "$meta/environment" GHOST_ACTION=rollback \
		"GHOST_FAILED_RELEASE_ID=$failed" <timer.pipe >>timer.log 2>&1
	status=$?
	[ "$status" = 0 ] || bad=$status
	! alive "$sleeper" "$since" || kill "$sleeper"
	rm -f timer.pipe
}
if [ "${back-}" ]; then
	# Not through a file, for the disk may be full.
	restored=$(restore 2>>timer.log)
	bad=$?
	while read -r has target; do
		case $has in restored,post_deploy) activate "$target" ;; esac
	done <<-EOF
		$restored
	EOF
	rm -f timer.sh
	echo "$id $bad $(date +%s)" >reverting
	mv reverting reverted
	exit
fi
# Seconds are counted, and not read off a clock that may be set meanwhile.
quiet=0
while [ "$(cat timer 2>/dev/null)" = "$id" ]; do
	heard
	# Executed again under the name "timer@APP", and on the list: lock.sh waits for the end
	# of such a process, so no run begins while links go back.
	quiet=$((quiet + 1))
	if [ "$quiet" -gt "$seconds" ] && mv timer reverting 2>/dev/null; then
		scripts=scripts
		. ./parts/enrol.sh
		back=1 exec /bin/sh "$PWD/timer.sh" "timer@$app"
	fi
	sleep 1
done
