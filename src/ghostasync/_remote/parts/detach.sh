#!/bin/sh
# Part of other scripts: the start of a script that outlives this session and its login.
detach() { # starts the script $2, with the words behind it, as the unit ghost-$1
	unit=$1
	shift
	# logind may end the processes that a login leaves behind (KillUserProcesses), but no unit.
	if [ "$(id -u)" = 0 ] && systemd-run --quiet --collect -p KillMode=process \
		--setenv=HOME="$HOME" --unit="ghost-$unit" /bin/sh "$@" 2>/dev/null; then
		return
	fi
	setsid=$(command -v setsid || :)
	# By a shell that ends at once, and not as a child of this one, which has the name of
	# this session: whoever ends that one ends its descendants.
	# shellcheck disable=SC2086  # no word at all on a host without setsid
	(trap '' HUP && exec $setsid /bin/sh "$@" </dev/null >/dev/null 2>&1 &)
}
