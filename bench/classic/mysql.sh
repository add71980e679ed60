#!/bin/sh
# What the old wiki page does for MySQL: one client per login, before the mail program starts.
mysql --defaults-extra-file="$CLASSIC_MYSQL" <<SQL
REPLACE INTO classic (address, last_seen) VALUES ('$IP', NOW());
SQL
exec "$@"
