#!/bin/sh
# What the old wiki page does for PostgreSQL: update, then insert. The server is in PGHOST etc.
psql -X -q <<SQL
UPDATE auth SET accessed = now() WHERE host = '$IP';
INSERT INTO auth (host, accessed)
SELECT '$IP', now() WHERE NOT EXISTS (SELECT 1 FROM auth WHERE host = '$IP');
SQL
exec "$@"
