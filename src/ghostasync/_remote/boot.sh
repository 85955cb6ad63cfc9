#!/bin/sh
# usage: boot [--follow]
# Has this host serve what MANIFEST names, as a host does that was deployed to, without a
# controller. Ends with one line: what it serves, or what went wrong, and then not with 0.
#
# How it works. Requests to the store are signed here, with the role of the instance. What
# a controller would have this host run stands in front (`text`): the same scripts, under
# the same lock, with the same records. An attempt reads MANIFEST, makes the host serve it,
# and reads it again: it may have moved meanwhile. An attempt that only the store or another
# run is in the way of (75) is made again, until `wait` seconds are over.
# shellcheck disable=SC2154,SC2034,SC1090,SC1091  # named in front, or sourced
# shellcheck disable=SC2086,SC2046,SC2059,SC2010,SC2088  # lists, formats, numbers, "~/"
# shellcheck disable=SC2015,SC2119,SC2120,SC2209  # each is as it is meant
set -u
umask 022
follow=
[ "${1-}" != --follow ] || follow=1
if [ "$user" ] && [ "$(id -u)" != "$(id -u "$user")" ]; then
	exec su -s /bin/sh -c "set -- ${follow:+--follow}
$(cat "$0")" "$user"
fi
# Not everything that starts at boot has one.
export HOME="${HOME:-$(sed -n "s/^$(id -un):.*:\([^:]*\):[^:]*\$/\1/p" /etc/passwd)}"
case $root in '~' | '~/'*) root=$HOME${root#'~'} ;; esac
app_dir=$root/$app_path
own=$app_dir/.ghost
. ./parts/owners.sh
. ./parts/ours.sh
why=$(
	exec 2>&1
	. ./parts/enter.sh
) && work=$(mktemp -d "$own/boot.$$.XXXXXX") || {
	echo "ghostasync boot: failed: $why" >&2
	exit 1
}
# What one that was killed has left holds secrets.
for old in "$own"/boot.[0-9]*.??????; do
	pid=${old#"$own/boot."}
	kill -0 "${pid%%.*}" 2>/dev/null || rm -rf "$old"
done
exec 5>&2 </dev/null >>"$own/boot.log" 2>&1
chmod 600 "$own/boot.log"

# --- What others are told ---------------------------------------------------------------

say() { # in the log, to whoever started this, and in the host's own log
	printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*"
	printf 'ghostasync boot: %s\n' "$*" >&5
	printf 'boot: %s\n' "$*" | logger -t ghostasync 2>/dev/null || :
}
stop() { # ends an attempt with the status $1, and leaves word why
	status=$1
	shift
	printf '%s\n' "$*" >"$work/why"
	exit "$status"
}
later() { stop 75 "$@"; }
die() { stop 1 "$@"; }
finish() { # the only way out: tells Auto Scaling, and ends what is under way
	# Not ignored: what is started from here on has to be able to end by a signal.
	trap : HUP INT TERM
	status=$1 result=CONTINUE
	shift
	[ ! -e "$work/moving" ] || back
	leave
	[ "$status" -eq 0 ] || result=ABANDON
	[ -z "$hook" ] || tell_group "$result" || say "Auto Scaling was not told: $(last "$work/curl")"
	say "$@"
	kill $beats 2>/dev/null
	rm -rf "$work"
	exit "$status"
}
leave() { # gives the lock back
	[ ! -f "$work/locker" ] || kill -s KILL "$(cat "$work/locker")" 2>/dev/null
	rm -f "$work/locker" "$work/locked"
}
beats=
trap 'finish 1 "was ended by a signal"' HUP INT TERM

# --- The store --------------------------------------------------------------------------

unfit() { finish 1 "failed: $*"; }
. ./parts/bucket.sh

# --- The scripts of a deploy ------------------------------------------------------------

nonce=$(printf '%s %s' "$work" "$(date -u)" | sha)
run=$(date -u +%Y%m%dT%H%M%SZ)-$(printf %.6s "$nonce")
word=$(printf %s "$app_dir" | sha)
word=$(printf %.16s "$word")
held_for() { # whether this script may begin: it changes nothing, or the lock is held still
	case $1 in lock | fetch) return 0 ;; esac
	[ -f "$work/locker" ] && kill -0 "$(cat "$work/locker")" 2>/dev/null ||
		{ echo "another run took the lock over" >&2 && return 1; }
}
# A process of its own, whose name tells later runs what it is. It must not keep the pipes
# open: their end tells it that this script is gone.
call() {
	name=$1
	shift
	held_for "$name" || exit 1
	# What opens the store is none of a script's business.
	unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN \
		AWS_EC2_METADATA_SERVICE_ENDPOINT AWS_ENDPOINT_URL_AUTO_SCALING
	listed="scripts=$(words "$own/scripts" | sed 1s/.//)
$(text enrol)"
	[ "$name" != lock ] || listed=
	exec /bin/sh -c "nonce=$nonce
$listed
$(text "$name")" "ghost-$name $run@$word" "$@" 5>&- 7>&- 8>&-
}
limited() { # SECONDS WHAT CWD FILE TEXT ENVIRONMENT [NAME=VALUE]...: a script of the app
	seconds=$1 what=$2
	shift 2
	printf '%s\n' "--- $what in $1"
	(call run "$@") <"$work/open" 2>&1 &
	job=$!
	(
		while [ "$seconds" -gt 0 ]; do
			sleep 1
			seconds=$((seconds - 1))
		done
		: >"$work/late"
		kill -s TERM "$job"
	) 5>&- 7>&- 8>&- &
	watch=$!
	status=0
	wait "$job" || status=$?
	kill "$watch" 2>/dev/null || :
	printf '%s\n' "--- $what exited $status"
	[ ! -e "$work/late" ] || { rm -f "$work/late" && return 124; }
	return "$status"
}
words() { # $* as words that sh reads back
	for one; do printf " '%s'" "$(printf %s "$one" | sed "s/'/'\\\\''/g")"; done
}
as() { # USER FILE TEXT ENVIRONMENT MORE: sets program, which runs it as that user
	program=
	[ "$1" ] && [ "$1" != "$(id -un)" ] || return 0
	program="# as another user
set -- $(words "$@" "$(text change_user)" "$(text run_as_inner)" "$(text bytes)")
$(text run_as)"
}
scripted() { # KEY SECONDS CWD ENVIRONMENT: the release's own script, where it has one
	[ -f "$meta/$1" ] || return 0
	eval "login=\$${1}_as"
	as "$login" "$meta/$1" '' "$meta/$4" ''
	file=$meta/$1
	[ -z "$program" ] || file=
	limited "$2" "$1 of $module" "$3" "$file" "$program" "$meta/$4" ||
		die "$1 of $module failed: what it said is in $own/boot.log"
}
lock() { # holds the app on this host as a run does, for as long as this script lives
	holder="run $run by boot on $host since $(date -u '+%Y-%m-%d %H:%M:%S UTC') as $host"
	# It outlives a signal to the whole group, for a way back needs the lock.
	(
		trap '' HUP INT TERM
		call lock "$app_dir" "$trusted" "$holder" "$run" "$word" 90 30 <"$work/beats"
	) >"$work/locked" 2>"$work/refused" &
	locker=$!
	echo "$locker" >"$work/locker"
	until grep -qs '^locked' "$work/locked"; do
		kill -0 "$locker" 2>/dev/null || later "the lock: $(last "$work/refused")"
		sleep 1
	done
}

# --- MANIFEST ---------------------------------------------------------------------------

each() { # runs $* for each line of MANIFEST, with its fields in variables; an error ends it
	while IFS=: read -r module package path sha256 number; do
		case $path in '~/'*) target=$HOME/${path#'~/'} ;; *) target=$path ;; esac
		dir=$app_dir/$module release=$app_dir/$module/$package meta=$app_dir/$module/.ghost/$package
		"$@" <&6
	done <"$work/MANIFEST" 6</dev/null
}
must() { "$@" || exit 1; }
well_formed() {
	grep -qxE '[A-Za-z0-9][A-Za-z0-9._-]*:[0-9]+_[A-Za-z0-9._-]+:[~/][^:]*:[0-9a-f]{64}:[0-9]{1,15}' \
		<<-LINE
			$module:$package:$path:$sha256:$number
		LINE
}
# What the host has of its own counts: who came later than MANIFEST knows better.
newest() { # sets newest and brought: number and release of the last move of $dir that stands
	newest=0 live='' brought=
	for record in $(ls "$dir/.ghost/activations" 2>/dev/null | grep -x '[0-9]*' | sort -rn); do
		file=$dir/.ghost/activations/$record
		grep -qxF "instance=$instance" "$file" || continue
		! grep -q '^outcome=reverted' "$file" || continue
		newest=$record brought=$(sed -n 's/^release=//p' "$file")
		! grep -q '^outcome=live' "$file" || live=$brought
		return 0
	done
}
whole() { # the link leads to a release that this instance has brought live
	newest
	now=$(readlink "$target") || return 1
	[ "${now%/*}" = "$dir" ] && [ -d "$now" ] && [ "$live" = "${now##*/}" ]
}
manifest() { # reads MANIFEST, with the environments of its packages, and proves it
	get MANIFEST "$work/MANIFEST" || later "the store has no MANIFEST: deploy first"
	printf '%s\n' "ghostasync MANIFEST 1" "app=$app" "env=$env" "role=$role" "color=$color" \
		>"$work/statement"
	: >"$work/lines"
	each read_line
	# What this shell has not read, such as a line without an end, must not count either.
	[ "$(sha <"$work/lines")" = "$(sha <"$work/MANIFEST")" ] || die "MANIFEST is damaged"
	[ -s "$work/lines" ] || later "MANIFEST is empty: deploy first"
	[ -z "$signers" ] || vouched
	generation=$(sed 's/.*://' "$work/lines" | sort -n | tail -n 1)
}
read_line() {
	well_formed || die "MANIFEST is damaged: $module:$package"
	printf '%s\n' "$module:$package:$path:$sha256:$number" >>"$work/lines"
	digest=-
	get "environments/$package.sh" "$work/$package.sh" && digest=$(sha <"$work/$package.sh")
	printf '%s\n' "$module:$package:$path:$sha256:$number:$digest" >>"$work/statement"
}
vouched() { # the statement, by one of the signers
	command -v ssh-keygen >/dev/null || die "ssh-keygen is missing: install OpenSSH's client"
	printf '%s\n' "$signers" >"$work/signers"
	get "signatures/$(sha <"$work/statement")" "$work/signature" ||
		stop 76 "MANIFEST has no signature: it was changed, or made without store.sign"
	for name in $(ssh-keygen -Y find-principals -f "$work/signers" -s "$work/signature"); do
		! ssh-keygen -Y verify -f "$work/signers" -I "$name" -n ghostasync \
			-s "$work/signature" <"$work/statement" >/dev/null || return 0
	done
	stop 76 "MANIFEST has no valid signature of anybody in store.signers"
}

# --- A release --------------------------------------------------------------------------

bring() { # the release to this host's disk, with its environment
	foreign=
	[ "$owner" = drop ] || foreign=$(strangers "$dir/.ghost" "${target%/*}")
	[ -z "$foreign" ] || die "in the hands of others: $foreign"
	[ ! -e "$target" ] || [ -L "$target" ] ||
		die "$target is no link: move it away, or deploy with adopt = true"
	previous=$(readlink "$target") || previous=
	case $previous in
	'' | "$dir"/*) ;;
	*) die "$target leads to $previous, which is not ours: remove it, or deploy with adopt = true" ;;
	esac
	fresh=
	if [ ! -d "$release" ]; then
		fresh=fresh
		decoder=zstd key=packages/$package${by_digest:+.$sha256}.tar
		if ! command -v zstd >/dev/null; then
			decoder=gzip
			get "$key.gz.sha256" "$work/gzip" && proven_gzip ||
				die "zstd is missing here, and the store has no archive in another form"
		fi
		form=zst
		[ "$decoder" = zstd ] || form=gz
		(address "$key.$form") >"$work/address" || exit
		(call pull "$dir" "$package" "$decoder" "$owner" "$proof" "$sha256" 60 \
			<"$work/address") 2>"$work/said" || unfetched
	fi
	[ -f "$work/$package.sh" ] || die "the store has no environment of $package"
	pre_deploy_as='' post_deploy_as='' shared='' health='' activate=''
	. "$meta/boot"
	eval "set -- $shared"
	set -- "$dir" "$package" "$previous" "$owner" "$fresh" "$rename" "$@"
	[ $# -eq 6 ] || (call share "$@") ||
		die "$module: what it shares could not be shared"
	environment >"$work/environment"
	size=$(wc -c <"$work/environment")
	(call environment "$meta" "$target" "$((size))" pre_deploy post_deploy <"$work/environment") \
		>"$work/unfit" || die "$module: its environment could not be kept"
	[ ! -s "$work/unfit" ] || say "$module: $(last "$work/unfit")"
	mark=$(printf '%s %s' "$content" "$(lasting <"$work/$package.sh" | sha)" | sha)
	record=$(record)
	words "$dir" "$release" '' "$record" >>"$work/records"
	words "$dir" "$target" "$previous" "$release" '' "$generation" >>"$work/moves"
	scripted pre_deploy "$pre_deploy" "$release" environment.next
}
unfetched() {
	said=$(last "$work/said")
	case $said in *'not fetched'*) later "$module: $said" ;; esac
	stop 76 "$module: $said"
}
proven_gzip() { # its digest is signed by itself: MANIFEST knows that of the other form
	other=$(head -n 1 "$work/gzip")
	if [ "$signers" ]; then
		printf '%s\n' "ghostasync gzip 1" "app=$app" "env=$env" "role=$role" "color=$color" \
			"package=$package" "archive=$sha256" "gzip=$other" >"$work/statement"
		vouched
	fi
	sha256=$other
}
# But for variables that change with each run: see digest() in _build/environment.py.
lasting() {
	value="='\([^']*'\\\\''\)*[^']*'\$/d"
	LC_ALL=C sed -e '1{/^ghost_secrets=/d;}' -e "/^export GHOST_ACTION$value" \
		-e "/^export GHOST_MODULE_USER$value" -e "/^export GHOST_MODULE_REV$value"
}
environment() {
	cat "$work/$package.sh"
	for pair in "GHOST_ACTION $action" "GHOST_MODULE_PATH $target" "GHOST_RELEASE_ID $package" \
		"GHOST_RELEASE_PATH $release" "GHOST_PREVIOUS_RELEASE_PATH $previous" "GHOST_HOST $host" \
		"GHOST_FAILED_RELEASE_ID " "GHOST_WAVE " \
		"GHOST_MODULE_COMMIT_MESSAGE_FILE $meta/commit_message"; do
		printf 'export %s=%s\n' "${pair%% *}" "$(words "${pair#* }" | sed 1s/.//)"
	done
	printf 'ghost_verify=%s\n' "$(words "$health" | sed 1s/.//)"
	as "$post_deploy_as" "$meta/post_deploy" '' "$meta/environment" "export GHOST_ACTION='rollback'"
	[ -z "$program" ] || printf 'ghost_activate=%s\n' "$(words "$program" | sed 1s/.//)"
}
record() {
	printf '%s\n' "generation=$generation" "run=$run" "release=$package" goal=boot \
		"previous=$(plain "$previous")" "target=$(plain "$target")" "fingerprint=$mark" \
		"store=$store" "instance=$(plain "$instance")" actor=boot \
		"at=$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
		"commit=$(sed -n "s/^export GHOST_MODULE_COMMIT='\([0-9a-f]*\)'\$/\1/p" "$work/$package.sh")" \
		"origin=$generation"
}
plain() { printf %s "$1" | sed 's/\\/\\\\/g' | tr '\n' ' '; }
activate() {
	pre_deploy_as='' post_deploy_as=''
	. "$meta/boot"
	scripted post_deploy "$post_deploy" "$target" environment
}
prove() { # its health, until the deadline
	verify_command='' verify_url='' verify_as='' interval=2 attempt_timeout=5
	. "$meta/boot"
	[ "$verify_command$verify_url" ] || return 0
	ends=$(($(date +%s) + verify))
	until healthy; do
		[ "$(date +%s)" -lt "$ends" ] || die "verify of $module did not pass within $verify s"
		sleep "$interval"
	done
}
healthy() {
	as "$verify_as" '' "$verify_command" "$meta/environment" ''
	[ -z "$verify_command" ] || limited "$attempt_timeout" "verify of $module" "$target" '' \
		"${program:-$verify_command}" "$meta/environment" || return 1
	[ -z "$verify_url" ] || (call fetch "$verify_url" "$attempt_timeout")
}
settle() { # the release is proven: the record says so, and old ones go
	. "$meta/boot"
	mark=$(sed -n 's/^fingerprint=//p' "$dir/.ghost/activations/$generation")
	(call prune "$dir" "$target" "$keep" 1 "$mark" "$generation" "$package") || :
}
settled() { # ends an attempt that has nothing to do
	(each must in_place) && exit 0
	(each must behind) && no_fence && return 0
	(each must served) || die "what moved here last is later than MANIFEST, and serves nothing"
	stop 3 "serves what came later than MANIFEST: left alone"
}
in_place() { # nothing is to be done for this module
	whole && [ "${now##*/}" = "$package" ] && [ "$newest" -ge "$number" ]
}
served() { # the link leads to a release
	now=$(readlink "$target") && [ "${now%/*}" = "$dir" ] && [ -d "$now" ]
}
behind() { # what this host has on record is not later than MANIFEST
	newest
	[ "$newest" -le "$number" ] || [ "$brought" = "$package" ]
}
no_fence() { # no run has moved links here, or is about to, that is later than MANIFEST
	fence='' last=''
	{ read -r fence last; } 2>/dev/null <"$own/fence" || :
	case $fence in *[!0-9]* | ????????????????*) die "$own/fence is damaged" ;; esac
	[ "${fence:-0}" -le "$generation" ]
}

# --- An attempt -------------------------------------------------------------------------

attempt() ( # makes the host serve MANIFEST
	set -e
	manifest
	host=$(imds meta-data/instance-id) || host=$(uname -n)
	settled
	lock
	# Another run may have had it until now.
	settled
	get ID "$work/ID" || : >"$work/ID"
	store=$(grep -xE '[0-9A-Za-z-]+' "$work/ID" | head -n 1) || store=
	# The fence is that of the run which moved MANIFEST: it may have this host in its hands,
	# too; and that of a boot before this one, which came no further.
	whose=$run
	! get "generations/$(printf %015d "$generation")" "$work/whose" ||
		whose=$(grep -xE '[0-9A-Za-z-]+' "$work/whose") || whose=$run
	[ "$fence" != "$generation" ] || whose=$last
	: >"$work/records"
	: >"$work/moves"
	each bring
	eval "set -- $(cat "$work/records")"
	(call record_moves "$app_dir" "$generation" "$whose" moved "$@") 2>"$work/said" ||
		die "$(last "$work/said")"
	eval "set -- $(cat "$work/moves")"
	: >"$work/moving"
	(call switch "$rename" "$own/switching" "$@") 2>"$work/said" || die "$(last "$work/said")"
	each activate
	each prove
	rm "$work/moving"
	each settle
)
back() ( # takes back what an attempt has moved before it failed
	[ -e "$work/moving" ] || return 0
	eval "set -- $(cat "$work/moves")"
	(call restore "$rename" "$own/switching" "$run" "$@") >"$work/restored" ||
		say "not every link is back: see $own/boot.log"
	while read -r has target; do
		[ "$has" = restored,post_deploy ] || continue
		release=$(readlink "$target") module=${release%/*}
		module=${module##*/} meta=${release%/*}/.ghost/${release##*/}
		post_deploy_as=
		[ ! -f "$meta/boot" ] || . "$meta/boot"
		file=$meta/post_deploy
		as "$post_deploy_as" "$file" '' "$meta/environment" "export GHOST_ACTION='rollback'"
		[ -z "$program" ] || file=
		limited "$post_deploy" "post_deploy of $module" "$target" "$file" "$program" \
			"$meta/environment" GHOST_ACTION=rollback ||
			say "post_deploy of $module failed on the way back"
	done <"$work/restored"
	rm "$work/moving"
)

mkfifo "$work/beats" "$work/open"
exec 7<>"$work/beats" 8<>"$work/open"
main=$$
(while sleep 15 7>&- && kill -0 "$main"; do echo >&7; done) 2>/dev/null 5>&- 8>&- &
beats=$!
owner=drop
[ "$(id -u)" -ne 0 ] || owner=keep
rename=mv
mv -T --version >/dev/null 2>&1 || rename=python3
command -v "$rename" >/dev/null || rename=perl
instance=
for file in /var/lib/cloud/data/instance-id /etc/machine-id; do
	line=
	read -r line 2>/dev/null <"$file" || :
	instance=$instance${instance:+/}$line
done

# A host that was up before serves on, whatever the store says.
if [ -z "$follow" ]; then
	known=
	for dir in "$app_dir"/*/; do
		dir=${dir%/}
		newest
		[ "$newest" -gt 0 ] || continue
		target=$(sed -n 's/^target=//p' "$dir/.ghost/activations/$newest")
		whole || { known='' && break; }
		known="$known ${now##*/}"
	done
	[ -z "$known" ] || finish 0 "serves$known, as before"
fi
clock
ends=$(($(date +%s) + wait)) refused=0
pause=1 before=
while :; do
	# Not a condition: a shell ignores errors there.
	rm -f "$work/why"
	attempt
	status=$?
	[ "$status" -eq 0 ] || back
	leave
	why=$(cat "$work/why" 2>/dev/null)
	case $status in
	0)
		now=$(cut -d: -f1,2,5 "$work/lines" | tr '\n' ' ')
		[ "$now" != "$before" ] || finish 0 "serves $(cut -d: -f2 "$work/lines" | tr '\n' ' ')"
		before=$now
		continue
		;;
	3) finish 0 "$why" ;;
	75)
		if [ "$(date +%s)" -ge "$ends" ]; then
			[ -z "$before" ] || finish 0 "serves $before; the store did not say so again: $why"
			finish 1 "failed: $why"
		fi
		;;
	76)
		refused=$((refused + 1))
		[ "$refused" -lt 3 ] || finish 1 "failed: $why"
		;;
	*) finish 1 "failed: ${why:-see $own/boot.log}" ;;
	esac
	say "waits: $why"
	sleep "$pause"
	[ "$pause" -ge 30 ] || pause=$((pause * 2))
done
