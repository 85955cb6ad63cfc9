#!/bin/sh
# usage: as USER FILE TEXT ENVIRONMENT MORE BECOME OTHER
# Runs FILE (or TEXT, where FILE is empty) as USER, with what ENVIRONMENT and MORE
# export: whatever USER may read, and whatever a change of user leaves of variables.
# It all goes through a pipe to OTHER, which runs as USER. We may not signal that: it
# ends the script when the pipe ends, and so when we do, however we do.
set -u
user=$1 file=$2 text=$3 environment=$4 more=$5 become=$6 other=$7
# The PATH is the script's already.
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
setsid=$(command -v setsid || :)
variables() { cat "$environment" && printf '\n%s\n' "$more"; }
script() {
	if [ -n "$file" ]; then cat "$file"; else printf '%s' "$text"; fi
}
count() { echo $(($(wc -c))); }
bang=$(script | sed -n '1s/^#![[:blank:]]*//p')
first="set -- $(variables | count) $(printf '%s' "$bang" | count) $(script | count)
$other"
nbytes=$(printf '%s' "$first" | count)
read="eval \"\$({ dd bs=$nbytes count=1 iflag=fullblock || dd bs=1 count=$nbytes; } 2>/dev/null)\""
pipe=${environment%/*}/as.$$
mkfifo "$pipe" || exit 1
# A session of its own, so that signals for our group find only us.
${setsid:+"$setsid"} /bin/sh -c "$become" ghost-become "$user" "$read" <"$pipe" &
child=$!
trap '' PIPE
trap 'exec 3>&-' HUP INT TERM
exec 3>"$pipe"
rm -f "$pipe"
{
	printf '%s' "$first"
	variables
	printf '%s' "$bang"
	script
	echo go
} >&3 2>/dev/null
status=0
wait "$child" || status=$?
if [ "$status" -gt 128 ]; then # perhaps it was us who were signalled
	again=0
	wait "$child" || again=$?
	[ "$again" = 127 ] || status=$again
fi
exit "$status"
