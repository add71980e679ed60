-- Three accounts with the least that each needs, PostgreSQL 9.5 and newer. After schema.sql, as
-- the table's owner with CREATEROLE:
--
--   psql --dbname=mail --file=sql/postgresql/roles.sql
--
-- They have no password yet, so that nobody logs in with a known one. In psql:
--
--   \password popbsmtp_writer
--   \password popbsmtp_expirer
--   \password popbsmtp_postfix
--
-- pg_hba.conf says from where, for example:
--
--   host  mail  popbsmtp_writer,popbsmtp_expirer  192.0.2.10/32  scram-sha-256
--   host  mail  popbsmtp_postfix                  192.0.2.25/32  scram-sha-256

-- Before PostgreSQL 15 everybody may create tables in public.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON popbsmtp FROM PUBLIC;

-- Records, revokes and lists: INSERT ... ON CONFLICT (address) DO UPDATE. It reads the row that is
-- there, because a late record must not move last_seen back, nor undo a revocation. It cannot
-- delete, nor rename an address.
CREATE ROLE popbsmtp_writer LOGIN;
GRANT USAGE ON SCHEMA public TO popbsmtp_writer;
GRANT INSERT ON popbsmtp TO popbsmtp_writer;
GRANT SELECT (address, last_seen, first_seen, username, service) ON popbsmtp TO popbsmtp_writer;
GRANT UPDATE (last_seen, username, service) ON popbsmtp TO popbsmtp_writer;

-- A server does not notice that a client has given up waiting, and keeps a connection for it; so it
-- gives up by itself, after any time that the toolkit waits for a login (database.connect_timeout
-- and at most 10 s) and for `popbsmtp flush` (60 s). It asks for its own limits within these.
ALTER ROLE popbsmtp_writer SET lock_timeout = '15s';
ALTER ROLE popbsmtp_writer SET statement_timeout = '90s';

-- Deletes what is old. It cannot see who logged in.
CREATE ROLE popbsmtp_expirer LOGIN;
GRANT USAGE ON SCHEMA public TO popbsmtp_expirer;
GRANT DELETE ON popbsmtp TO popbsmtp_expirer;
GRANT SELECT (address, last_seen) ON popbsmtp TO popbsmtp_expirer;

-- `popbsmtp expire` and `revoke` wait for 60 s.
ALTER ROLE popbsmtp_expirer SET lock_timeout = '60s';
ALTER ROLE popbsmtp_expirer SET statement_timeout = '90s';

-- Looks up. It cannot see who logged in.
CREATE ROLE popbsmtp_postfix LOGIN;
GRANT USAGE ON SCHEMA public TO popbsmtp_postfix;
GRANT SELECT (address, last_seen) ON popbsmtp TO popbsmtp_postfix;

-- Postfix sets no limit, and a lookup takes milliseconds: an SMTP server that waits for longer keeps
-- its client waiting.
ALTER ROLE popbsmtp_postfix SET lock_timeout = '5s';
ALTER ROLE popbsmtp_postfix SET statement_timeout = '10s';

-- PostgreSQL 14 and newer look, while they wait, whether the client is still there.
DO $$
BEGIN
    IF current_setting('server_version_num')::int >= 140000 THEN
        ALTER ROLE popbsmtp_writer SET client_connection_check_interval = '5s';
        ALTER ROLE popbsmtp_expirer SET client_connection_check_interval = '5s';
        ALTER ROLE popbsmtp_postfix SET client_connection_check_interval = '5s';
    END IF;
END
$$;
