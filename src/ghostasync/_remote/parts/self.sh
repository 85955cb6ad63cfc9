#!/bin/sh
# Part of other scripts: $self becomes the process that runs this line, in a subshell, where
# $$ is another one; $began the time at which it began. read is a builtin, so the process
# that opens the file is this one itself.
# shellcheck disable=SC2034,SC2086  # others use it; numbers
born() { shift 19 && began=$1; }
began=
if read -r self 2>/dev/null </proc/self/stat; then
	# Behind the name, which may hold blanks.
	# shellcheck disable=SC2086  # numbers
	born ${self##*) }
	self=${self%% *}
else
	self=$(exec sh -c 'echo "$PPID"')
fi
