#!/bin/sh
# Part of other scripts: whether a script can be started here, by what its first line says.
unfit() ( # prints why one that begins with $1 cannot be; $2 is its PATH, $3 a folder to come
	case $1 in
	'#!'*"$(printf '\r')")
		echo "its first line ends with a carriage return: save it with the line ends of Unix"
		exit 0
		;;
	'#!'*) ;;
	*) exit 0 ;;
	esac
	search=$2 own=$3
	set -f
	# shellcheck disable=SC2086  # an interpreter, and what it is given
	set -- ${1#??}
	program=${1-}
	# What the release brings itself, or what is in its place then, is not judged before.
	case $program in "$own"/* | [!/]* | '') exit 0 ;; esac
	if ! [ -f "$program" ] || ! [ -x "$program" ]; then
		echo "$program, which its first line names, is not there: install it"
		exit 0
	fi
	shift
	[ "${program##*/}" = env ] && [ $# -gt 0 ] || exit 0
	case $1 in
	-S*)
		"$program" -S "$program" >/dev/null 2>&1 || {
			echo "$program knows no -S: name the interpreter itself in its first line"
			exit 0
		}
		first=${1#-S}
		shift
		# shellcheck disable=SC2086  # a word, or none
		set -- $first "$@"
		;;
	-*) exit 0 ;;
	*)
		[ $# -eq 1 ] || {
			echo "$program takes \"$*\" in its first line for one name: write #!$program -S $*"
			exit 0
		}
		;;
	esac
	# Options, variables and quotes are env's to read.
	case ${1-} in '' | -* | *[/=\"\'\\\$]*) exit 0 ;; esac
	PATH=$search command -v "$1" >/dev/null ||
		echo "$1, which its first line names, is not on the PATH: install it, or set PATH"
)
noexec() { # prints where the disk is mounted, if programs in the folder $1 cannot be started
	# shellcheck disable=SC2154  # the nonce comes with the frame
	program=$1/.ghost-try.$nonce
	echo '#!/bin/sh' 2>/dev/null >"$program" || return 0
	chmod u+x "$program"
	"$program" 2>/dev/null || [ $? -ne 126 ] || df -P "$1" | sed -n '$s/.*% //p'
	rm -f "$program"
}
