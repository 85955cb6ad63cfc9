#!/bin/sh
# Part of other scripts: what is at $url comes to stdout, by the first tool that is here.
# The address opens the door to whoever has it: it stands in no argument list.
# shellcheck disable=SC2154  # the others assign url
download() { # gives up after $1 seconds of silence; $2 is a range of bytes, or empty
	if command -v curl >/dev/null; then
		printf 'url = "%s"\n%s\n' "$url" "${headers-}" | curl -sSfL -K - ${2:+-r "$2" -m "$1"} \
			--connect-timeout "$1" --speed-limit 1 --speed-time "$1"
	elif wget --version 2>/dev/null | grep -q GNU; then
		# Its own words have the address in them.
		echo "$url" | wget -q -O - -T "$1" -t 1 ${2:+--header=Range:bytes="$2"} -i - || {
			case $? in
			4) echo "wget: no connection" ;;
			5) echo "wget: the certificate is not trusted" ;;
			8) echo "wget: the store refused" ;;
			*) echo "wget failed" ;;
			esac >&2
			return 1
		}
	elif command -v python3 >/dev/null; then
		echo "$url" | python3 -c 'import shutil, sys, urllib.request as web
say, wait, part = sys.stdin.readline().strip(), float(sys.argv[1]), sys.argv[2:]
call = web.Request(say, headers={"Range": "bytes=" + part[0]} if part else {})
shutil.copyfileobj(web.urlopen(call, timeout=wait), sys.stdout.buffer, 1 << 18)' "$@"
	else
		echo "curl, wget and python3 are missing: install one of them" >&2
		return 1
	fi
}
