#!/bin/sh
# usage: check APP_DIR TRUSTED RECORDS [DIR TARGET]...   (prints facts, one KEY=VALUE a line)
# DIR is a module's folder, TARGET the link that it is served from. Lines about a module
# follow its "module" line, the newest RECORDS of its activation records among them, as
# "NUMBER:KEY=VALUE". Changes nothing that lasts; any fact that cannot be found out is
# left out, hence no set -e.
set -u
app_dir=$1 trusted=$2 records=$3
shift 3
. ./parts/above.sh
. ./parts/owners.sh
. ./parts/alive.sh
say() { printf '%s\n' "$1"; } # echo would read backslashes
say "uid=$me"
say "gid=$(id -g)"
for tool in tar zstd gzip flock setsid sha256sum curl wget ssh-keygen setfattr getfattr \
	python3; do
	! command -v "$tool" >/dev/null || say "tool=$tool"
done
# Nobody else may put another thing in the place of what is read and run there.
whose() {
	left=$#
	while [ "$left" -gt 0 ]; do
		set -- "$@" "$1/.ghost" "${2%/*}"
		shift 2
		left=$((left - 2))
	done
	strangers "$app_dir/.ghost" "$@"
	for dir; do [ ! -L "$dir" ] || case $dir in */.ghost) say "link . $dir" ;; esac; done
}
foreign=$(whose "$@")
[ -z "$foreign" ] ||
	printf '%s\n' "$foreign" | while IFS= read -r line; do say "foreign=$line"; done
at=$app_dir
[ -d "$at" ] || at=$(above "$at")
[ -w "$at" ] || say "unwritable=$at"
room() { # prints what df with the option $1 says last
	df "$1" "$at" 2>/dev/null | {
		while IFS= read -r line; do said=$line; done
		printf '%s' "${said-}"
	}
}
say "blocks=$(room -Pk)"
# Two names for one machine lead to the same folder of the same boot.
read -r boot 2>/dev/null </proc/sys/kernel/random/boot_id || boot=
say "place=$boot $(stat -c %d:%i "$at" 2>/dev/null)"
say "inodes=$(room -Pi)"
# A random name: hosts that are containers may share a disk and their PIDs repeat.
try=$app_dir/.ghost
[ -w "$try" ] || try=$at
# shellcheck disable=SC2154  # comes with the frame
try=$try/.ghost-try.$nonce
if [ "$foreign" ] && [ "$me" = 0 ]; then
	: # root makes nothing where others may
elif untried=$(LC_ALL=C mkdir "$try" "$try/a" "$try/b" 2>&1); then
	ln -s a "$try/link"
	ln -s b "$try/new"
	if mv -T "$try/new" "$try/link" 2>/dev/null && [ "$(readlink "$try/link")" = b ]; then
		say "rename=mv"
	elif python3 -c '' 2>/dev/null; then
		say "rename=python3"
	elif perl -e '' 2>/dev/null; then
		say "rename=perl"
	fi
else
	say "untried=$untried"
fi
rm -rf "$try"
# Where logind ends the processes that a login leaves behind, it ends timers as well.
! grep -qs '^KillUserProcesses=\(yes\|true\|on\|1\)' \
	/etc/systemd/logind.conf /etc/systemd/logind.conf.d/*.conf || say "ends-logins=yes"
# A machine that was copied has the records of the first one, but is another instance.
instance=
for file in /var/lib/cloud/data/instance-id /etc/machine-id; do
	word=
	read -r word 2>/dev/null <"$file" || : # its last line may have no end
	instance=$instance${instance:+/}$word
done
say "instance=$instance"
fence=$app_dir/.ghost/fence
[ ! -e "$fence" ] || say "fence=$(head -n 1 "$fence")"
# Who has frozen the app, and until when: 0 is for ever.
if { read -r frozen && read -r ends; } 2>/dev/null <"$app_dir/.ghost/frozen"; then
	[ "$ends" -gt 0 ] && [ "$(date +%s)" -ge "$ends" ] || say "frozen=$frozen"
fi
# The holder of the lock, if its process lives: a host that went down has left a name.
if { read -r holder && read -r pid start; } 2>/dev/null <"$app_dir/.ghost/holder"; then
	! alive "$pid" "$start" || say "holder=$holder"
fi
# Of the activation records the newest ones are told, and the one by which $id is live.
activations() {
	# Elsewhere grep leaves out lines, and sort paths, that are no text in the host's language.
	export LC_ALL=C
	cd "$dir/.ghost/activations" 2>/dev/null || return
	# shellcheck disable=SC2010  # numbers, and what a killed script has left
	all=$(ls | grep -x '[0-9][0-9]*' | sort -rn)
	# shellcheck disable=SC2086  # a list of numbers
	set -- $all
	[ $# -gt 0 ] || return
	# A switch that was killed half-way may have left an adopted folder aside, with nothing
	# in its place.
	aside=$(printf '%b' "$(sed -n 's/^aside=//p' "$1")")
	[ -z "$aside" ] || [ ! -e "$aside" ] || say "aside=yes"
	told=
	for number; do
		[ "$records" -gt 0 ] || break
		records=$((records - 1)) told="$told $number"
	done
	# shellcheck disable=SC2013  # a list of numbers
	[ -z "$id" ] || for number in $(grep -lxF "release=$id" "$@"); do
		read -r outcome <"$number"
		[ "${outcome#outcome=reverted}" = "$outcome" ] || continue
		told="$told $number"
		break
	done
	# shellcheck disable=SC2086  # a list of numbers; with /dev/null grep names each file
	grep '' /dev/null $told 2>/dev/null
	# The path of a module may have been another one, and its link may still be there.
	sed -n 's/^target=//p' "$@" | sort -u | while IFS= read -r word; do
		other=$(printf '%b' "$word")
		if [ "$other" != "$target" ] && now=$(readlink "$other"); then
			[ "${now%/*}" != "$dir" ] || say "elsewhere=$word"
		fi
	done
}
# Records that another user has made, with sudo or under another login, are closed to this
# one, and a release whose records cannot be read could not be gone back to.
closed() {
	for path; do
		if [ -d "$path" ] && ! { [ -r "$path" ] && [ -x "$path" ]; }; then
			say "closed=$(stat -c %U "$path" 2>/dev/null) $path"
		fi
	done
}
closed "$app_dir/.ghost"
while [ $# -gt 0 ]; do
	dir=$1 target=$2 link='' id=''
	shift 2
	say "module=$dir"
	if [ -L "$target" ]; then
		link=$(readlink "$target")
		say "target=link"
		say "link=$(printf '%s' "$link" | tr '\n' '?')"
		if [ "${link%/*}" = "$dir" ]; then
			id=${link##*/}
			[ -d "$link" ] || say "dangling=$id"
			! [ -f "$dir/.ghost/$id/fingerprint" ] ||
				say "fingerprint=$(cat "$dir/.ghost/$id/fingerprint")"
		fi
	elif [ -d "$target" ]; then
		say "target=directory"
	elif [ -e "$target" ]; then
		say "target=file"
	else
		say "target=absent"
	fi
	closed "$dir/.ghost" "$dir/.ghost/activations" ${id:+"$dir/.ghost/$id"}
	(activations)
	up=$(above "$target")
	[ -w "$up" ] || say "unwritable=$up"
	for release in "$dir"/*_*; do
		id=${release##*/}
		[ -d "$release" ] && [ -d "$dir/.ghost/$id" ] || continue
		for script in pre_deploy before_switch post_deploy environment; do
			! [ -f "$dir/.ghost/${release##*/}/$script" ] || id="$id $script"
		done
		say "release=$id"
	done
done
