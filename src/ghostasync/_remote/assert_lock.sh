#!/bin/sh
# usage: assert_lock   (does nothing: it is asked for its fence, before something is done)
set -eu
