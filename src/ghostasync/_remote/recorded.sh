#!/bin/sh
# usage: recorded [META]...
# Prints the environments that the releases of META have, had, and are about to have, each
# behind a line "environment": what is secret in them is kept out of what scripts print.
set -eu
for meta; do
	for file in environment environment.before environment.next; do
		[ ! -f "$meta/$file" ] || { echo environment && cat "$meta/$file"; } || :
	done
done
