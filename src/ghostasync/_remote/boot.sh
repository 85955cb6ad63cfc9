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
if [ "$user" ] && [ "$(id -un)" != "$user" ]; then
	exec su -s /bin/sh -c "$(cat "$0")" "$user" -- "$@"
fi
# Not everything that starts at boot has one.
export HOME="${HOME:-$(sed -n "s/^$(id -un):.*:\([^:]*\):[^:]*\$/\1/p" /etc/passwd)}"
case $root in '~' | '~/'*) root=$HOME${root#'~'} ;; esac
app_dir=$root/$app_path
own=$app_dir/.ghost
mkdir -p "$own" && chmod 700 "$own" && work=$(mktemp -d "$own/boot.XXXXXX") || exit 1
exec 5>&2 </dev/null >>"$own/boot.log" 2>&1
chmod 600 "$own/boot.log"

# --- What others are told ---------------------------------------------------------------

say() { # in the log, to whoever started this, and in the host's own log
	printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*"
	printf 'ghostasync boot: %s\n' "$*" >&5
	logger -t ghostasync "boot: $*" 2>/dev/null || :
}
stop() { # ends an attempt with the status $1, and leaves word why
	status=$1
	shift
	printf '%s\n' "$*" >"$work/why"
	exit "$status"
}
later() { stop 75 "$@"; }
die() { stop 1 "$@"; }
last() { sed '/^$/d' "$1" 2>/dev/null | tail -n 1; }
finish() { # the only way out: tells Auto Scaling, and ends what is under way
	trap '' HUP INT TERM
	status=$1 result=CONTINUE
	shift
	leave
	[ "$status" -eq 0 ] || result=ABANDON
	[ -z "$hook" ] || tell_group "$result" || say "Auto Scaling was not told: $(last "$work/curl")"
	say "$@"
	kill $beats 2>/dev/null
	rm -rf "$work"
	exit "$status"
}
leave() { # gives the lock back
	[ ! -f "$work/locker" ] || kill "$(cat "$work/locker")" 2>/dev/null
	rm -f "$work/locker" "$work/locked"
}
beats=
trap 'finish 1 "was ended by a signal"' HUP INT TERM

# --- The store --------------------------------------------------------------------------

. ./parts/sha256.sh
hasher "$work/digest.py"
[ "$tool" ] || finish 1 "failed: nothing here makes a sha256: install coreutils or openssl"
command -v curl >/dev/null || finish 1 "failed: curl is missing: install it"
sha() { $tool | sed 's/[^0-9a-f].*//'; }
hex() { od -An -v -tx1 | tr -d ' \n'; }
bytes() { # stdin, hex, as bytes
	set -- $(sed 's/../0x& /g')
	printf "$(printf '\\%03o' "$@")"
}
hmac() { # of the text $2 with the key $1, in hex, as RFC 2104 has it
	key=$1 inner='' outer=''
	[ ${#key} -le 128 ] || key=$(printf %s "$key" | bytes | sha)
	while [ ${#key} -lt 128 ]; do key=${key}00; done
	for byte in $(printf %s "$key" | sed 's/../0x& /g'); do
		inner="$inner $((byte ^ 0x36))" outer="$outer $((byte ^ 0x5c))"
	done
	inner=$({ printf "$(printf '\\%03o' $inner)" && printf %s "$2"; } | sha)
	{ printf "$(printf '\\%03o' $outer)" && printf %s "$inner" | bytes; } | sha
}
escaped() { printf %s "$1" | sed 's/%/%25/g; s/+/%2B/g; s,/,%2F,g; s/=/%3D/g; s/:/%3A/g'; }

metadata=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}
imds() { # never through a proxy: it would answer for another machine
	[ "${token-}" ] || token=$(curl -sf --noproxy '*' -m 5 -X PUT \
		-H 'X-aws-ec2-metadata-token-ttl-seconds: 21600' "$metadata/latest/api/token") || return 1
	printf 'header = "X-aws-ec2-metadata-token: %s"\n' "$token" |
		curl -sf --noproxy '*' -m 5 -K - "$metadata/latest/$1"
}
field() { sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p" "$work/role"; }
credentials() {
	access=${AWS_ACCESS_KEY_ID-} secret=${AWS_SECRET_ACCESS_KEY-} session=${AWS_SESSION_TOKEN-}
	if [ -z "$access" ]; then
		role=$(imds meta-data/iam/security-credentials/) &&
			imds "meta-data/iam/security-credentials/$role" >"$work/role" ||
			later "this instance has no role, or does not tell its credentials"
		access=$(field AccessKeyId) secret=$(field SecretAccessKey) session=$(field Token)
	fi
	[ "$region" ] || region=$(imds meta-data/placement/region) || later "no region is known"
}
signed() { # SERVICE ORIGIN PATH QUERY HASH: an address, and the headers to ask for it with
	now=$(date -u +%Y%m%dT%H%M%SZ)
	scope=${now%T*}/$region/$1/aws4_request
	names='host;x-amz-content-sha256;x-amz-date' headers="x-amz-content-sha256:$5
x-amz-date:$now
"
	if [ "$session" ]; then
		names="$names;x-amz-security-token"
		headers="${headers}x-amz-security-token:$session
"
	fi
	request=$(printf 'GET\n%s\n%s\nhost:%s\n%s\n%s\n%s' \
		"$3" "$4" "${2#*://}" "$headers" "$names" "$5" | sha)
	request=$(printf 'AWS4-HMAC-SHA256\n%s\n%s\n%s' "$now" "$scope" "$request")
	signature=$(printf 'AWS4%s' "$secret" | hex)
	for part in "${now%T*}" "$region" "$1" aws4_request "$request"; do
		signature=$(hmac "$signature" "$part")
	done
	printf '%s\n%sauthorization: AWS4-HMAC-SHA256 %s\n' "$2$3${4:+?$4}" "$headers" \
		"Credential=$access/$scope, SignedHeaders=$names, Signature=$signature"
}
address() { # of the store's object $1
	[ "$bucket" ] || { echo "$origin$folder/$1" && return; }
	credentials
	at=$origin
	[ "$at" ] || at=https://$bucket.s3.$region.amazonaws.com
	signed s3 "$at" "$folder/$1" '' UNSIGNED-PAYLOAD
}
curled() { # FILE: what is at the address on stdin; prints the status of HTTP
	sed '1s/.*/url = "&"/; 2,$s/.*/header = "&"/' | curl -sSL -K - --connect-timeout 5 -m 60 \
		-o "$1" -w '%{http_code}' 2>"$work/curl"
}
get() { # KEY FILE: an object of the store; 1 where there is none
	link=$(address "$1") || exit
	code=$(printf '%s\n' "$link" | curled "$2") || later "the store: $(last "$work/curl")"
	case $code in
	200) ;;
	404) return 1 ;;
	*) later "the store: $1: HTTP $code $(sed -n 's,.*<Code>\(.*\)</Code>.*,\1,p' "$2")" ;;
	esac
}
tell_group() { # completes the lifecycle action of this instance, with the result $1
	case $(imds meta-data/autoscaling/target-lifecycle-state) in
	'' | InService) ;;
	*) return 0 ;; # on its way into a warm pool: nobody waits for it yet
	esac
	(
		credentials
		at=${AWS_ENDPOINT_URL_AUTO_SCALING:-https://autoscaling.$region.amazonaws.com}
		query="Action=CompleteLifecycleAction&AutoScalingGroupName=$(escaped "$group")"
		query="$query&InstanceId=$(imds meta-data/instance-id)&LifecycleActionResult=$1"
		query="$query&LifecycleHookName=$(escaped "$hook")&Version=2011-01-01"
		code=$(signed autoscaling "$at" / "$query" "$(sha </dev/null)" | curled "$work/told")
		[ "$code" = 200 ] || { echo "HTTP $code" >>"$work/curl" && exit 1; }
	)
}

# --- The scripts of a deploy ------------------------------------------------------------

run=$(date -u +%Y%m%dT%H%M%SZ)-boot
nonce=$(printf '%s %s' "$run" $$ | sha)
word=$(printf %s "$app_dir" | sha)
word=$(printf %.16s "$word")
# A process of its own, whose name tells later runs what it is. It must not keep the pipes
# open: their end tells it that this script is gone.
call() {
	name=$1
	shift
	# What opens the store is none of a script's business.
	unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN \
		AWS_EC2_METADATA_SERVICE_ENDPOINT AWS_ENDPOINT_URL_AUTO_SCALING
	exec /bin/sh -c "nonce=$nonce
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
as() { # USER FILE TEXT ENVIRONMENT: sets text, which runs it as that user
	program=
	[ "$1" ] && [ "$1" != "$(id -un)" ] || return 0
	program="set -- $(words "$@" '' "$(text change_user)" "$(text run_as_inner)" "$(text bytes)")
$(text run_as)"
}
scripted() { # KEY SECONDS CWD ENVIRONMENT: the release's own script, where it has one
	[ -f "$meta/$1" ] || return 0
	eval "whose=\$${1}_as"
	as "$whose" "$meta/$1" '' "$meta/$4"
	file=$meta/$1
	[ -z "$program" ] || file=
	limited "$2" "$1 of $module" "$3" "$file" "$program" "$meta/$4" ||
		die "$1 of $module failed: $(tail -n 2 "$own/boot.log" | head -n 1)"
}
lock() { # holds the app on this host as a run does, for as long as this script lives
	holder="run $run by boot on $host since $(date -u '+%Y-%m-%d %H:%M:%S UTC') as $host"
	(call lock "$app_dir" "$holder" "$run" "$word" 90 30 <"$work/beats") \
		>"$work/locked" 2>"$work/refused" &
	locker=$!
	echo "$locker" >"$work/locker"
	until grep -qs '^locked' "$work/locked"; do
		kill -0 "$locker" 2>/dev/null || later "the lock: $(last "$work/refused")"
		sleep 1
	done
}

# --- MANIFEST ---------------------------------------------------------------------------

each() { # $* for MANIFEST's lines, one after the other; errors end it as they end this script
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
newest() { # sets newest: the number of the last move of $dir that this instance has on record
	newest=0 live=
	for record in $(ls "$dir/.ghost/activations" 2>/dev/null | grep -x '[0-9]*' | sort -rn); do
		file=$dir/.ghost/activations/$record
		grep -qxF "instance=$instance" "$file" || continue
		newest=$record
		! grep -q '^outcome=live' "$file" || live=$(sed -n 's/^release=//p' "$file")
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
	: >"$work/statement"
	printf '%s\n' "ghostasync MANIFEST 1" "app=$app" "env=$env" "role=$role" "color=$color" \
		>"$work/statement"
	each read_line
	[ -z "$signers" ] || vouched
	generation=$(sed 's/.*://' "$work/MANIFEST" | sort -n | tail -n 1)
	[ "$generation" ] || later "MANIFEST is empty: deploy first"
}
read_line() {
	well_formed || die "MANIFEST is damaged: $module:$package"
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
	[ ! -e "$target" ] || [ -L "$target" ] ||
		die "$target is no link: move it away, or deploy with adopt = true"
	previous=$(readlink "$target") || previous=
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
		mkdir -p "$dir"
		(call pull "$dir" "$package" "$decoder" "$owner" "$proof" "$sha256" 60 \
			<"$work/address") 2>"$work/said" || unfetched
	fi
	[ -f "$work/$package.sh" ] || get "environments/$package.sh" "$work/$package.sh" ||
		die "the store has no environment of $package"
	pre_deploy_as='' post_deploy_as='' shared='' health='' activate=''
	. "$meta/boot"
	live=
	[ "${previous%/*}" != "$dir" ] || live=$previous
	eval "set -- $shared"
	[ $# -eq 0 ] || (call share "$dir" "$package" "$live" "$owner" "$fresh" "$@") ||
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
	other=$(sed -n '1s/[^0-9a-f].*//p' "$work/gzip")
	[ "$other" ] || other=$(head -n 1 "$work/gzip")
	if [ "$signers" ]; then
		printf '%s\n' "ghostasync gzip 1" "app=$app" "env=$env" "role=$role" "color=$color" \
			"package=$package" "archive=$sha256" "gzip=$other" >"$work/statement"
		vouched
	fi
	sha256=$other
}
# But for variables that change with each run: see digest() in _build/environment.py.
lasting() { sed -e "/^export GHOST_\(ACTION\|MODULE_USER\|MODULE_REV\)='[^']*'\$/d"; }
environment() {
	cat "$work/$package.sh"
	for pair in "GHOST_ACTION $action" "GHOST_MODULE_PATH $target" "GHOST_RELEASE_ID $package" \
		"GHOST_RELEASE_PATH $release" "GHOST_PREVIOUS_RELEASE_PATH $previous" "GHOST_HOST $host" \
		"GHOST_FAILED_RELEASE_ID " "GHOST_WAVE " \
		"GHOST_MODULE_COMMIT_MESSAGE_FILE $meta/commit_message"; do
		printf 'export %s=%s\n' "${pair%% *}" "$(words "${pair#* }" | sed 1s/.//)"
	done
	printf 'ghost_verify=%s\n' "$(words "$health" | sed 1s/.//)"
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
	as "$verify_as" '' "$verify_command" "$meta/environment"
	[ -z "$verify_command" ] || limited "$attempt_timeout" "verify of $module" "$target" '' \
		"${program:-$verify_command}" "$meta/environment" || return 1
	[ -z "$verify_url" ] || (call fetch "$verify_url" "$attempt_timeout")
}
settle() { # the release is proven: the record says so, and old ones go
	. "$meta/boot"
	mark=$(sed -n 's/^fingerprint=//p' "$dir/.ghost/activations/$generation")
	(call prune "$dir" "$target" "$keep" 1 "$mark" "$generation" "$package") || :
}
in_place() { # nothing is to be done for this module
	whole && [ "${now##*/}" = "$package" ] && [ "$newest" -ge "$number" ]
}
behind() { # what this host has on record is not later than MANIFEST
	newest
	[ "$newest" -le "$number" ] || [ "$live" = "$package" ]
}

# --- An attempt -------------------------------------------------------------------------

attempt() ( # makes the host serve MANIFEST
	set -e
	manifest
	host=$(imds meta-data/instance-id) || host=$(uname -n)
	(each must in_place) && exit 0
	(each must behind) || stop 3 "serves what came later than MANIFEST: left alone"
	lock
	store=$(get ID "$work/ID" && cat "$work/ID") || store=
	whose=$(get "generations/$(printf %015d "$generation")" "$work/whose" &&
		grep -xE '[0-9A-Za-z-]+' "$work/whose") || whose=$run
	: >"$work/records"
	: >"$work/moves"
	each bring
	kill -0 "$locker" || die "another run took the lock over"
	eval "set -- $(cat "$work/records")"
	# The fence is that of the run which moved MANIFEST: it may have this host in its hands, too.
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
		limited "$post_deploy" "post_deploy of $module" "$target" "$meta/post_deploy" '' \
			"$meta/environment" GHOST_ACTION=rollback || say "post_deploy of $module failed on the way back"
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
ends=$(($(date +%s) + wait)) pause=1 refused=0
until [ "$(date +%s)" -ge "$after" ]; do
	[ "$pause" -lt 600 ] || finish 1 "failed: the clock says $(date -u)"
	pause=$((pause + 1))
	sleep 1
done
pause=1 before=
while :; do
	# Not a condition: a shell ignores errors there.
	attempt
	status=$?
	[ "$status" -eq 0 ] || back
	leave
	why=$(cat "$work/why" 2>/dev/null)
	case $status in
	0)
		now=$(cut -d: -f1,2,5 "$work/MANIFEST" | tr '\n' ' ')
		[ "$now" != "$before" ] || finish 0 "serves $(cut -d: -f2 "$work/MANIFEST" | tr '\n' ' ')"
		before=$now
		continue
		;;
	3) finish 0 "$why" ;;
	75) [ "$(date +%s)" -lt "$ends" ] || finish 1 "failed: $why" ;;
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
