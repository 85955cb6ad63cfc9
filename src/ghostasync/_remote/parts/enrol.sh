#!/bin/sh
# Part of other scripts: this process goes on the list of scripts, $scripts, by which lock
# finds it. Appended, by one write: others write there, too. The way back must begin on a
# full disk as well.
. ./parts/self.sh
echo "$self $began" 2>/dev/null >>"$scripts" || :
