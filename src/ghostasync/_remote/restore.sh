#!/bin/sh
# usage: restore RENAME BUSY RUN [DIR TARGET PREVIOUS NEW ASIDE GENERATION]...
# Puts each link back to PREVIOUS (or removes it) where it is NEW; leaves any other alone,
# and fails in the end. DIR is a module's folder, TARGET its link, GENERATION the number of
# the record that says afterwards that RUN took the move back, RENAME the tool that moves a
# link, BUSY the file that names a switch at work.
# Prints for each target whether it was moved, whether the release that serves again has a
# post-deploy, and how it proves its health: "restored,post_deploy TARGET", "verify JSON".
set -eu
rename=$1 busy=$2 run=$3
shift 3
. ./parts/rename.sh
. ./parts/flush.sh
. ./parts/syslog.sh
. ./parts/alive.sh
. ./parts/none.sh
# A switch whose connection died may still be on its way: it must not win afterwards.
if { read -r pid start <"$busy"; } 2>/dev/null; then
	! alive "$pid" "$start" || ! kill -s KILL "$pid" || sleep 1
	rm -f "$busy" || :
fi
put_back() { # by the link that the switch has made, for the disk may be full; else by another
	for back in "$beside"-back-*; do
		[ "$(readlink "$back" || :)" != "$previous" ] || ! rename "$back" "$target" || return 0
	done
	# shellcheck disable=SC2154  # the nonce comes with the frame
	back=$beside-back-$nonce
	ln -s "$previous" "$back" && rename "$back" "$target" || :
}
failed=0
while [ $# -gt 0 ]; do
	dir=$1 target=$2 previous=$3 new=$4 aside=$5 record=$1/.ghost/activations/$6
	shift 6
	now=$(readlink "$target" || :)
	beside=${target%/*}/.${target##*/}.ghost
	has=restored
	# The new link of a switch that was ended: an mv that is late finds nothing to rename.
	none "$beside"-new-*
	if [ "$now" != "$new" ]; then
		# Not moved, or back already; or a switch was ended between the two moves of an
		# adoption, and the folder is aside with nothing in its place.
		has=left
		if [ -n "$aside" ] && [ -e "$aside" ] && [ -z "$now" ] && [ ! -e "$target" ]; then
			mv "$aside" "$target"
		elif [ "$now" != "$previous" ]; then
			none "$beside"-back-*
			printf '%s, neither %s nor %s: left alone\n' \
				"$target points to ${now:-nothing}" "${previous:-absent}" "$new" >&2
			failed=1
			continue
		fi
	elif [ -n "$aside" ] && [ ! -e "$aside" ]; then
		# Removed first, the link would leave the target with nothing at all.
		printf '%s\n' "$aside is not there any more: $target still points to $new" >&2
		failed=1
		continue
	elif [ -n "$aside" ]; then
		rm "$target" && mv "$aside" "$target" || :
	elif [ -z "$previous" ]; then
		rm "$target" || :
	elif [ "$previous" != "$new" ]; then
		put_back
	fi
	none "$beside"-back-*
	now=$(readlink "$target" || :)
	if [ "$now" != "$previous" ]; then
		printf '%s\n' "$target leads to ${now:-nothing}, not back to ${previous:-nothing}" >&2
		failed=1
		continue
	fi
	# In place, at its beginning: the disk may be full.
	if [ -f "$record" ]; then
		printf 'outcome=reverted' 1<>"$record" || :
		grep -qxF "reverted_by=$run" "$record" || echo "reverted_by=$run" >>"$record" || :
	fi
	flush -f "${target%/*}" || :
	[ "$has" = left ] || syslog "$target: $new -> ${previous:-nothing} again, for run $run"
	meta=$dir/.ghost/${previous##*/}
	ghost_verify=
	if [ -n "$previous" ] && [ "$previous" = "$dir/${previous##*/}" ]; then
		# The same release again: its environment was ours to replace.
		[ "$previous" != "$new" ] || [ ! -f "$meta/environment.before" ] ||
			mv "$meta/environment.before" "$meta/environment"
		# What cannot be read is never "there is none": nobody has run its post-deploy.
		if [ -d "$meta" ] && ! { [ -r "$meta" ] && [ -x "$meta" ]; }; then
			echo "$meta cannot be read: the post-deploy of $previous was not run" >&2
			failed=1
		fi
		! [ -f "$meta/post_deploy" ] || has=$has,post_deploy
		# shellcheck disable=SC1091  # written by environment.sh
		ghost_verify=$(. "$meta/environment" 2>/dev/null && printf '%s' "${ghost_verify-}") || :
	fi
	printf '%s\n' "$has $target"
	[ -z "$ghost_verify" ] || printf '%s\n' "verify $ghost_verify"
done
exit "$failed"
