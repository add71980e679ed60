#!/bin/sh
# The least that a post-login script can do.
exec "$@"
