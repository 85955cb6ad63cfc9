#!/bin/sh
# Part of other scripts: links of ours beside a target go. What cannot be cleared away does
# no harm, for their names are random; what is no link is somebody else's.
none() { for left; do [ ! -L "$left" ] || rm -f "$left" || :; done; }
