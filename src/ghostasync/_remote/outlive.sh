#!/bin/sh
# usage: outlive META NAME APP RUN TEXT
# Starts TEXT so that it outlives this session, unless it was started for RUN already. Then
# prints what it prints until it has ended, and ends with its status. Where stdin ends before
# that, only the looking on ends. META is the folder for its files, NAME.*; APP is the word by
# which other runs find its process. TEXT ends with outlived.sh.
set -eu
meta=$1 name=$2 app=$3 run=$4 text=$5
mask=$(umask)
umask 077
cd "$meta"
. ./parts/detach.sh
. ./parts/alive.sh
# An earlier session of this run may have died between its note and the start.
if [ "$(cat "$name.run" 2>/dev/null)" != "$run" ] || [ ! -d "$name.begun" ]; then
	rm -rf "$name.begun" "$name.output" "$name.status"
	true >"$name.output"
	# Of a fixed width, so that the status can be written in place on a full disk.
	printf '%-4s\n' - | cat >"$name.status"
	# Of this login are PATH and the like: a unit would have others.
	{ export -p && printf '%s\n' "umask $mask" "$text"; } | cat >"$name.sh"
	echo "$run" | cat >"$name.run"
	detach "$name-$run" "$PWD/$name.sh" "$name@$app@$run"
fi
. ./parts/self.sh
exec 3<&0
(
	cat <&3
	while kill -s KILL "$self"; do sleep 1; done
) >/dev/null 2>&1 &
watch=$!
exec 3<&-
trap 'kill -s KILL "$watch" 2>/dev/null || :' EXIT
printed=0 looks=0 gone=0
while :; do
	# The status first: what was printed before it is in the file by then.
	status=$(cat "$name.status")
	size=$(wc -c <"$name.output")
	if [ "$size" -gt "$printed" ]; then
		tail -c "+$((printed + 1))" "$name.output" | head -c "$((size - printed))"
		printed=$size
	fi
	status=${status%% *}
	case $status in '' | -) ;; *) break ;; esac
	pid='' start=''
	{ read -r pid start <"$name.begun/pid"; } 2>/dev/null || :
	if ! alive "$pid" "$start"; then
		gone=$((gone + 1))
		# It has just begun, or has just ended; else the host went down, or it was killed.
		if [ "$gone" -gt 10 ]; then
			echo "it was ended from outside; nobody knows how far it got" >&2
			exit 1
		fi
	fi
	looks=$((looks + 1))
	{ [ "$looks" -le 20 ] && sleep 0.1 2>/dev/null; } || sleep 1
done
exit "$status"
