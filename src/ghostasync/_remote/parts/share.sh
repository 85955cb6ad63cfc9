#!/bin/sh
# Part of receive: a path of the release becomes a link into DIR/shared, which outlives it.
# The first release that has the path fills it. Folders on the way keep times and modes.
own() { [ "$owner" = drop ] || chown -h "$whose" "$1"; }

share() { # KIND PATH
	rest=$2 over=. to=$dir/shared/$2 closed=
	while [ "$rest" != "${rest#*/}" ]; do
		over=$over/${rest%%/*} rest=${rest#*/}
		[ ! -L "$over" ] || die "shared $2: ${over#*/} is a link"
		[ -d "$over" ] || { mkdir "$over" && own "$over"; }
	done
	from=$over/$rest
	touch -r "$over" ../times
	[ -w "$over" ] || { chmod u+w "$over" && closed=1; }
	if [ ! -e "$to" ] && [ ! -L "$to" ]; then
		mkdir -p "${to%/*}"
		if [ ! -L "$from" ] && test "-$1" "$from"; then
			[ "$1" = f ] || [ -w "$from" ] || chmod u+w "$from"
			wipe "$to.incoming"
			mv "$from" "$to.incoming"
			mv "$to.incoming" "$to"
		elif [ "$1" = d ]; then
			mkdir "$to"
			own "$to"
		fi
	fi
	wipe "$from"
	ln -s "$to" "$from"
	own "$from"
	[ -z "$closed" ] || chmod u-w "$over"
	touch -r ../times "$over"
}
