#!/bin/sh
# usage: assert_lock
# Does nothing: its fence is the question, whether the lock is still this run's.
set -eu
