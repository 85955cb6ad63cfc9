#!/bin/sh
# Part of other scripts: $* (with -f, the file systems that hold them) go to the disk.
flush() { sync "$@" 2>/dev/null || sync; }
