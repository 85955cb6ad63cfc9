#!/bin/sh
# usage: share DIR ID LIVE OWNER FRESH RENAME [SHARED]...
# Has paths of release ID, which does not serve yet, lead into DIR/shared, which outlives it.
# DIR is the module's folder, LIVE the folder that serves now or empty, OWNER keep, as root,
# or drop, RENAME the tool that moves links, SHARED d:PATH or f:PATH. FRESH is not empty where
# the release has just come: then what it brings there is a seed; else what it has there of
# its own stays with its records.
# What LIVE has at a path that becomes shared is copied: users may have written it. Else the
# first release that has the path fills it. stdout: nothing, or lines "warning: …".
set -eu
dir=$1 id=$2 live=$3 owner=$4 fresh=$5 rename=$6
shift 6
umask 022
export LC_ALL=C
. ./parts/rename.sh
. ./parts/extract.sh
. ./parts/flush.sh
. ./parts/ours.sh
. ./parts/add.sh
me=$(id -u) meta=$dir/.ghost/$id
times=$meta/times copied=$meta/copied seeded=$meta/seeded
own() { [ "$owner" = drop ] || chown -h "$whose" "$1"; }

fits() { # refuses to copy $was where the disk has no room for it
	need=$(du -sk "$was" 2>/dev/null || :) need=${need%%[!0-9]*}
	free=$(df -Pk "$dir/shared" 2>/dev/null | sed -n '$s/.* \([0-9][0-9]*\)  *[0-9-]*%.*/\1/p')
	# What one of them does not say is not judged.
	[ -z "$need" ] || [ -z "$free" ] || [ "$need" -lt "$free" ] ||
		refuse "$was has $need KiB to copy, and $dir has $free KiB free: make room"
}
of_kind() { # refuses what is at $1 and of another kind
	[ -L "$1" ] || [ ! -e "$1" ] || test "-$kind" "$1" ||
		refuse "$1 is of another kind: shared_dirs are folders, shared_files files"
}

share() { # works in the folder of the release where $path is
	to=$dir/shared/$path seed=$meta/seeds/$path closed=
	of_kind "$to"
	(tidy)
	[ ! -L "$to" ] || refuse "$to is a link"
	touch -r . "$times"
	[ -w . ] || { chmod u+w . && closed=1; }
	if [ "$was" ]; then
		if [ ! -e "$to" ]; then
			fits
		else
			echo "warning: shared $path was there:" \
				"what is newer or missing came from the live release"
		fi
		(apart; merge)
		printf '%s\n' "$path" >>"$copied"
	elif [ -e "$to" ]; then
		:
	elif real "$kind" "./$name" || real "$kind" "$seed"; then
		if [ ! -e "$seed" ]; then
			[ "$kind" = f ] || [ -w "./$name" ] || chmod u+w "./$name"
			[ -d "${seed%/*}" ] || mkdir -p "${seed%/*}"
			mv "./$name" "$seed"
		fi
		(apart; mv "$seed" "./$name"; settle)
		printf '%s\n' "$path" >>"$seeded"
	elif [ "$kind" = d ]; then
		(reach "$dir/shared" "$way"; mkdir "./$name"; own "./$name")
	fi
	if [ -z "$fresh" ] && real "$kind" "./$name"; then
		mkdir -p "$meta/unshared/$path"
		mv "./$name" "$meta/unshared/$path/"
	fi
	[ ! -e "./$name" ] && [ ! -L "./$name" ] || wipe "./$name"
	ln -s "$to" "./$name"
	own "./$name"
	[ -z "$closed" ] || chmod u-w .
	touch -r "$times" .
}

# What a release brought from its package and that never went live is taken back, unless
# somebody has written there: a first deploy that failed must not leave its files for ever.
# shellcheck disable=SC2013,SC2094  # numbers; the list is only read
take_seeds_back() {
	serves=$1
	for list in "$dir"/.ghost/*/seeded; do
		[ -f "$list" ] || continue
		id_of=${list%/seeded} id_of=${id_of##*/}
		# A try before this one has brought them: they are this release's own.
		[ "$id_of" != "$id" ] || continue
		if [ "$id_of" != "$serves" ] && ! lived "$id_of"; then
			while IFS= read -r path; do
				locate
				[ "$(find "$dir/shared/$path" -newer "$list" 2>/dev/null)" ] ||
					(reach "$dir/shared" "$way"; wipe "./$name")
			done <"$list"
		fi
		rm -f "$list"
	done
}
# shellcheck disable=SC2013  # numbers
lived() { # whether a record says that release $1 went live
	for record in $(grep -lsxF "release=$1" "$dir"/.ghost/activations/[0-9]*); do
		! grep -qs '^outcome=live' "$record" || return 0
	done
	return 1
}

cd "$dir/$id"
whose=
[ "$owner" = drop ] || whose=$(stat -c %u:%g .)
ours "$dir/shared"
take_seeds_back "${live##*/}"
for item; do
	item=${item%/} kind=${item%%:*} path=${item#*:}
	[ ! -L "$path" ] || [ "$(readlink "$path")" != "$dir/shared/$path" ] || continue
	if [ "$live" ] && [ "$live" -ef . ]; then
		echo "warning: $path is shared from the next release on: this one serves"
		continue
	fi
	locate
	was=
	[ -z "$live" ] || serves "$live"
	(reach "$dir/$id" "$way" 'own .'; of_kind "./$name"; share)
done
rm -rf "$times" "$meta/seeds"
# Only what is newer than this has somebody written.
[ ! -f "$seeded" ] || touch "$seeded"
flush -f .
