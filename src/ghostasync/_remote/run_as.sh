#!/bin/sh
# usage: run_as USER FILE TEXT ENVIRONMENT MORE CHANGE INNER READER
# Runs FILE (or TEXT, where FILE is empty) as USER, with the variables that ENVIRONMENT and
# MORE export. CHANGE, INNER and READER are texts: change_user, run_as_inner, and the part
# "bytes".
#
# How it works. USER may read neither FILE nor ENVIRONMENT nor the message of the commit
# beside it, and a change of user drops variables. So all that the script needs goes through
# a pipe to INNER, which runs as USER. This process may not signal INNER; the end of the pipe
# tells it to end the script, and comes when this process ends, however it does.
set -u
user=$1 file=$2 text=$3 environment=$4 more=$5 change=$6 inner=$7 reader=$8
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
setsid=$(command -v setsid || :)
variables() { cat "$environment" && printf '\n%s\n' "$more"; }
message() { cat "${environment%/*}/commit_message" 2>/dev/null || :; }
script() {
	if [ -n "$file" ]; then cat "$file"; else printf '%s' "$text"; fi
}
count() { echo $(($(wc -c))); }
bang=$(script | sed -n '1s/^#![[:blank:]]*//p')
set -- "$(variables | count)" "$(printf '%s' "$bang" | count)" "$(script | count)"
first="set -- $* $(message | count)
$inner"
read="nbytes=$(printf '%s' "$first" | count); eval \"\$($reader)\""
pipe=${environment%/*}/run_as.$$
mkfifo "$pipe" || exit 1
# A session of its own: signals for the group of this process find this process alone.
${setsid:+"$setsid"} /bin/sh -c "$change" ghost-change_user "$user" "$read" <"$pipe" &
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
	message
	echo go
} >&3 2>/dev/null
status=0
wait "$child" || status=$?
if [ "$status" -gt 128 ]; then # perhaps the signal was for this process
	again=0
	wait "$child" || again=$?
	[ "$again" = 127 ] || status=$again
fi
exit "$status"
