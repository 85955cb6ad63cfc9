#!/bin/sh
# Part of boot and user_data: reads what is in the store, and tells Auto Scaling. They name
# the store ($bucket, $origin, $folder, $region), have a folder $work, and say what `later`
# and `unfit` do.
# shellcheck disable=SC2154,SC2086,SC2046,SC2059,SC2015  # lists, formats; as it is meant
last() { sed '/^$/d' "$1" 2>/dev/null | tail -n 1; }
clock() { # waits until the clock is set: no request would be taken before
	left=600
	until [ "$(date +%s)" -ge "$after" ]; do
		[ "$left" -gt 0 ] || unfit "the clock says $(date -u)"
		left=$((left - 1))
		sleep 1
	done
}
. ./parts/sha256.sh
hasher "$work/digest.py"
[ "$tool" ] || unfit "nothing here makes a sha256: install coreutils or openssl"
command -v curl >/dev/null || unfit "curl is missing: install it"
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
escaped() { # as a part of a query
	for byte in $(printf %s "$1" | hex | sed 's/../& /g'); do
		case $byte in
		2[de] | 3[0-9] | [46][1-9a-f] | [57][0-9a] | 5f | 7e) printf "\\$(printf %03o "0x$byte")" ;;
		*) printf %%%s "$byte" | tr a-f A-F ;;
		esac
	done
}

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
zone() { # the domain of the region's services
	case $region in cn-*) echo amazonaws.com.cn ;; *) echo amazonaws.com ;; esac
}
address() { # of the store's object $1
	[ "$bucket" ] || { echo "$origin$folder/$1" && return; }
	credentials
	at=$origin
	[ "$at" ] || at=https://$bucket.s3.$region.$(zone)
	signed s3 "$at" "$folder/$1" '' UNSIGNED-PAYLOAD
}
curled() { # FILE: what is at the address on stdin; prints the status of HTTP
	sed '1s/.*/url = "&"/; 2,$s/.*/header = "&"/' |
		curl -sSL --path-as-is -K - --connect-timeout 5 -m 60 -w '%{http_code}' \
			-o "$1" 2>"$work/curl"
}
get() { # KEY FILE: an object of the store; 1 where there is none
	link=$(address "$1") || exit
	code=$(printf '%s\n' "$link" | curled "$2") || later "the store: $(last "$work/curl")"
	case $code in
	200) return 0 ;;
	404) rm -f "$2" && return 1 ;;
	esac
	said=$(sed -n 's,.*<Code>\([A-Za-z]*\)</Code>.*,\1,p' "$2")
	rm -f "$2"
	later "the store: $1: HTTP $code $said"
}
tell_group() { # completes the lifecycle action of this instance, with the result $1
	case $(imds meta-data/autoscaling/target-lifecycle-state) in
	'' | InService) ;;
	*) return 0 ;; # on its way into a warm pool: nobody waits for it yet
	esac
	(
		credentials
		at=${AWS_ENDPOINT_URL_AUTO_SCALING:-https://autoscaling.$region.$(zone)}
		query="Action=CompleteLifecycleAction&AutoScalingGroupName=$(escaped "$group")"
		query="$query&InstanceId=$(imds meta-data/instance-id)&LifecycleActionResult=$1"
		query="$query&LifecycleHookName=$(escaped "$hook")&Version=2011-01-01"
		code=$(signed autoscaling "$at" / "$query" "$(sha </dev/null)" | curled "$work/told")
		[ "$code" = 200 ] || { echo "HTTP $code" >>"$work/curl" && exit 1; }
	)
}
