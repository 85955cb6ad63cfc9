#!/bin/sh
# usage: probe [SUDO]
# Prints the user of this login as KEY=VALUE lines, one a line; where SUDO is a user, also
# the complaint of sudo -n about commands as that user, if it has one.
set -eu
sudo=${1-}
echo "home=$(cd && pwd)"
echo "uid=$(id -u)"
echo "user=$(id -un)"
if [ "$sudo" ] && ! words=$(sudo -n -u "$sudo" /bin/sh -c : 2>&1); then
	echo "sudo=$(printf '%s' "$words" | tr '\n' ' ')"
fi
