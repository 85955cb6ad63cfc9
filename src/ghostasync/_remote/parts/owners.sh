#!/bin/sh
# Part of other scripts: whose the folders on the way to a path are.
# $trusted: names of users, and of groups with "@" in front, that may change things there;
# $me becomes the number of this user.
me=$(id -u)

# Prints, one a line, what others may change on the way to each path $*, links resolved, as
# far as it is there: "owner NAME FOLDER", "group NAME FOLDER"; "others . FOLDER", "anybody"
# where a sticky bit keeps them to names of their own, "acl" where an ACL lets them.
strangers() {
	left=$#
	while [ "$left" -gt 0 ]; do
		left=$((left - 1)) rest=$1 at='' links=40
		shift
		while :; do
			while [ "${rest#/}" != "$rest" ]; do rest=${rest#/}; done
			name=${rest%%/*}
			case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
			case $name in '') break ;; .) continue ;; ..) at=${at%/*} && continue ;; esac
			if [ -L "$at/$name" ]; then
				set -- "$@" "$at/$name"
				links=$((links - 1))
				[ "$links" -gt 0 ] || break
				to=$(readlink "$at/$name")
				case $to in /*) at= ;; esac
				rest=$to/$rest
			elif [ -d "$at/$name" ]; then
				at=$at/$name
				set -- "$@" "$at"
				# Where names of ours are made others must not make any: with a slash behind.
				[ "${rest#"${rest%%[!/]*}"}" ] || set -- "$@" "$at/"
			else
				# Who can make a name there makes this one before us.
				set -- "$@" "$at/"
				break
			fi
		done
	done
	mine=" 0 $me ${SUDO_UID-}"
	for name in $trusted; do
		case $name in @*) ;; *) mine="$mine $(id -u "$name" 2>/dev/null)" ;; esac
	done
	mine="$mine "
	found=$(LC_ALL=C stat -c '%u %g %A %n|' / "$@" | sort -u |
		while read -r uid gid rights path; do
			path=${path%|} # a name may end in a blank
			case $mine in
			*" $uid "*) ;;
			*)
				user=$(id -un "$uid" 2>/dev/null || echo "$uid")
				within "$user" || echo "owner $(one_word "$user") ${path%/}"
				;;
			esac
			case $rights in l*) continue ;; esac
			case $uid.$rights.$path in 0.d????????[tT].*[!/]) continue ;; esac
			case $rights in
			????????w[tT]) echo "anybody . ${path%/}" ;;
			????????w?) echo "others . ${path%/}" ;;
			esac
			case $rights in ?????w*) shared "$gid" "$path" ;; esac
		done)
	[ -z "$found" ] || printf '%s\n' "$found" | sort -u
}
within() { # whether the user $1 is in one of the groups that are trusted
	for word in $trusted; do
		case $word in @*) ;; *) continue ;; esac
		case " $(id -Gn "$1" 2>/dev/null) " in *" ${word#@} "*) return 0 ;; esac
	done
	return 1
}
one_word() { printf '%s\n' "$1" | tr ' ' _; }
shared() { # says so if the group $1 has members who may not write to $2
	# With an ACL these bits are its mask, and tell nothing.
	case $(LC_ALL=C ls -ld "$2") in ??????????+*) echo "acl . ${2%/}" && return ;; esac
	gname=$(database group | sed -n "s/^\([^:]*\):[^:]*:$1:.*/\1/p" | head -n 1)
	case " $trusted " in *" @${gname:-$1} "*) return ;; esac
	# Nothing here may fail: under set -e the folders behind this one would not be judged.
	others=$(
		{
			database group | sed -n "s/^[^:]*:[^:]*:$1://p" | tr , '\n'
			database passwd | sed -n "s/^\([^:]*\):[^:]*:[^:]*:$1:.*/\1/p"
		} | while read -r member; do
			[ "$member" ] || continue
			number=$(id -u "$member" 2>/dev/null) || number=unknown
			case $mine in *" $number "*) ;; *) within "$member" || echo "$member" ;; esac
		done
	)
	[ -z "$others" ] || echo "group $(one_word "${gname:-$1}") ${2%/}"
}
database() { getent "$1" 2>/dev/null || cat "/etc/$1"; }
