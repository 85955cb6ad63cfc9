#!/bin/sh
# usage: switch RENAME BUSY [DIR TARGET PREVIOUS NEW ASIDE GENERATION]...
# Moves every link of the host back to back; prints "moved" when the last one has moved.
# DIR is a module's folder, TARGET its link, RENAME the tool that moves it, BUSY the file
# that names this process meanwhile, so that a restore can end it, GENERATION the number of
# the move's record.
#
# How it works, in three passes over all modules. ready: each new link is made beside its
# target, and so is the link of the way back; a failure here has moved nothing. move: one
# rename(2) for each link. keep: the books, which visitors need not wait for.
set -eu
rename=$1 busy=$2
shift 2
. ./parts/rename.sh
. ./parts/flush.sh
. ./parts/syslog.sh
. ./parts/ours.sh
. ./parts/add.sh
. ./parts/none.sh
links='' moved=''
# shellcheck disable=SC2086  # a list, split at newlines alone
trap 'IFS="
"; set -f; rm -f "$busy" $links' EXIT
trap 'exit 143' HUP INT TERM
each() {
	verb=$1
	shift
	while [ $# -gt 0 ]; do
		dir=$1 target=$2 previous=$3 new=$4 aside=$5 record=$1/.ghost/activations/$6
		# Random: nobody can have put anything there.
		# shellcheck disable=SC2154  # the nonce comes with the frame
		beside=${target%/*}/.${target##*/}.ghost link=$beside-new-$nonce
		meta=$dir/.ghost/${new##*/}
		"$verb"
		shift 6
	done
}
# Starting processes is most of the time between the first link of a wave and the last:
# there are three in the usual case, the link, the way back, and the move.
ready() {
	none "$beside"-new-* # of a switch that was killed
	[ -d "$new" ] || { echo "$new is not there" >&2 && exit 1; }
	now=$previous
	if [ ! -L "$target" ]; then
		now=
	elif ! [ "$target" -ef "$previous" ]; then
		now=$(readlink "$target" || :)
	fi
	[ "$now" != "$new" ] || return 0 # a switch that was cut short got this far
	if [ -z "$aside" ] && [ "$now" != "$previous" ]; then
		echo "$target is not ${previous:-absent} any more but ${now:-absent}" >&2 && exit 1
	fi
	[ -n "$aside$now" ] || [ ! -e "$target" ] || { echo "$target is not a link" >&2 && exit 1; }
	ours "${target%/*}"
	ln -s "$new" "$link"
	back=$beside-back-$nonce
	links="$links$link
$back
"
	# With this link in place the way back needs no room on the disk. prune or restore
	# removes it.
	none "$beside"-back-*
	[ -z "$previous" ] || [ -n "$aside" ] || ln -s "$previous" "$back"
}
# What users have written since paths that become shared were copied from what serves.
again() {
	[ -f "$meta/copied" ] || return 0
	from=$previous
	[ -z "$aside" ] || from=$target
	[ "$from" ] || return 0
	me=$(id -u)
	while IFS= read -r path; do
		locate
		for kind in d f; do
			serves "$from"
			[ -z "$was" ] || (apart; merge)
		done
	done <"$meta/copied"
}
move() {
	[ -L "$link" ] || return 0
	[ -z "$aside" ] || [ ! -e "$target" ] || mv "$target" "$aside"
	rename "$link" "$target"
	moved="$moved$target
"
}
# The link itself says whether it moved: its new one may have been taken away meanwhile.
arrived() {
	now=$(readlink "$target" || :)
	[ "$now" = "$new" ] || { echo "$target leads to ${now:-nothing}, not to $new" >&2 && exit 1; }
}
# A run that is killed before this loses nothing: the record of its move is on the disk.
keep() {
	if [ -f "$meta/environment.next" ]; then
		# Kept once: where a killed run has switched already, "environment" is that run's,
		# and "before" the one to go back to. Renamed, so that it is whole.
		if [ -f "$meta/environment" ] && [ ! -f "$meta/environment.before" ]; then
			cp -p "$meta/environment" "$meta/environment.kept"
			mv "$meta/environment.kept" "$meta/environment.before"
		fi
		mv "$meta/environment.next" "$meta/environment"
	fi
	[ ! -e "$meta/copied" ] || rm -f "$meta/copied"
	flush -f "${target%/*}"
	case $moved in *"$target
"*)
		why=
		while IFS= read -r line; do
			case $line in
			run=* | generation=* | actor=* | key=* | reason=*) why="$why $line" ;;
			esac
		done 2>/dev/null <"$record" || :
		syslog "$target: ${previous:-nothing} -> $new$why"
		;;
	esac
}
umask 077
. ./parts/self.sh
echo "$self $began" >"$busy"
each ready "$@"
each again "$@"
each move "$@"
links=
# A connection that is gone by now must not end the script before its books are kept.
trap '' PIPE
echo moved 2>/dev/null || :
each arrived "$@"
each keep "$@"
