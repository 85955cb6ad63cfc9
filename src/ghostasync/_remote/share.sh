#!/bin/sh
# usage: share DIR ID LIVE OWNER FRESH [SHARED]...
# Has paths of release ID, which does not serve yet, lead into DIR/shared, which outlives it.
# DIR is the module's folder, LIVE the folder that serves now or empty, OWNER keep, as root,
# or drop, SHARED d:PATH or f:PATH. FRESH is not empty where the release has just come: then
# what it brings there is a seed; else what it has there of its own stays with its records.
# What LIVE has at a path that becomes shared is copied: users may have written it. Else the
# first release that has the path fills it. stdout: nothing, or lines "warning: …".
set -eu
dir=$1 id=$2 live=$3 owner=$4 fresh=$5
shift 5
umask 022
export LC_ALL=C
. ./parts/extract.sh
. ./parts/flush.sh
. ./parts/ours.sh
. ./parts/add.sh
meta=$dir/.ghost/$id
times=$meta/times copied=$meta/copied seeded=$meta/seeded
own() { [ "$owner" = drop ] || chown -h "$whose" "$1"; }
real() { [ ! -L "$2" ] && test "-$1" "$2"; } # KIND PATH

fits() { # PATH: refuses to copy what $live has there where the disk has no room for it
	need=$(du -sk "$live/$1" 2>/dev/null || :) need=${need%%[!0-9]*}
	free=$(df -Pk . 2>/dev/null | sed -n '$s/.* \([0-9][0-9]*\)  *[0-9-]*%.*/\1/p')
	# What one of them does not say is not judged.
	[ -z "$need" ] || [ -z "$free" ] || [ "$need" -lt "$free" ] || die "shared $1:" \
		"$live/$1 has $need KiB to copy, and $dir has $free KiB free: make room"
}

share() { # KIND PATH
	rest=$2 over=. to=$dir/shared/$2 closed=
	while [ "$rest" != "${rest#*/}" ]; do
		over=$over/${rest%%/*} rest=${rest#*/}
		[ ! -L "$over" ] || die "shared $2: ${over#*/} is a link"
		[ -d "$over" ] || { mkdir "$over" && own "$over"; }
	done
	from=$over/$rest
	if [ "$live" ] && [ "$rest" != "$2" ]; then straight "$live" "${2%/*}"; fi
	straight "$dir/shared" "$2"
	for path in "$from" "$to"; do
		[ -L "$path" ] || [ ! -e "$path" ] || test "-$1" "$path" ||
			die "shared $2: $path is of another kind: shared_dirs are folders, shared_files files"
	done
	touch -r "$over" "$times"
	[ -w "$over" ] || { chmod u+w "$over" && closed=1; }
	if [ ! -e "$to" ] && [ ! -L "$to" ]; then
		ours "${to%/*}"
		wipe "$to.incoming"
		if [ "$live" ] && real "$1" "$live/$2"; then
			fits "$2"
			cp -a "$live/$2" "$to.incoming"
			mv "$to.incoming" "$to"
			printf '%s\n' "$2" >>"$copied"
		elif real "$1" "$from"; then
			[ "$1" = f ] || [ -w "$from" ] || chmod u+w "$from"
			mv "$from" "$to.incoming"
			mv "$to.incoming" "$to"
			printf '%s\n' "$2" >>"$seeded"
		elif [ "$1" = d ]; then
			mkdir "$to"
			own "$to"
		fi
	elif [ "$live" ] && real "$1" "$live/$2"; then
		if [ "$1" = d ]; then add "$live/$2/." "$to/"; else add "$live/$2" "$to"; fi
		printf '%s\n' "$2" >>"$copied"
		echo "warning: shared $2 was there: what is newer or missing came from the live release"
	fi
	if [ -z "$fresh" ] && real "$1" "$from"; then
		mkdir -p "$meta/unshared/$2"
		mv "$from" "$meta/unshared/$2/"
	fi
	wipe "$from"
	ln -s "$to" "$from"
	own "$from"
	[ -z "$closed" ] || chmod u-w "$over"
	touch -r "$times" "$over"
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
				[ "$(find "$dir/shared/$path" -newer "$list" 2>/dev/null)" ] ||
					wipe "$dir/shared/$path"
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
take_seeds_back "${live##*/}"
for item; do
	item=${item%/} path=${item#*:}
	[ "$(readlink "$path" || :)" != "$dir/shared/$path" ] || continue
	if [ "$live" ] && [ "$live" -ef . ]; then
		echo "warning: $path is shared from the next release on: this one serves"
		continue
	fi
	share "${item%%:*}" "$path"
done
rm -f "$times"
# Only what is newer than this has somebody written.
[ ! -f "$seeded" ] || touch "$seeded"
flush -f .
