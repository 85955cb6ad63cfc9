#!/bin/sh
# Part of other scripts: says $1 in the host's own log, if it has one. In the background:
# a log that is slow or away holds up no move.
syslog() { (exec logger -t ghostasync "$1") </dev/null >/dev/null 2>&1 & }
