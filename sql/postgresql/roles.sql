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

-- Deletes what is old. It cannot see who logged in.
CREATE ROLE popbsmtp_expirer LOGIN;
GRANT USAGE ON SCHEMA public TO popbsmtp_expirer;
GRANT DELETE ON popbsmtp TO popbsmtp_expirer;
GRANT SELECT (address, last_seen) ON popbsmtp TO popbsmtp_expirer;

-- Looks up. It cannot see who logged in.
CREATE ROLE popbsmtp_postfix LOGIN;
GRANT USAGE ON SCHEMA public TO popbsmtp_postfix;
GRANT SELECT (address, last_seen) ON popbsmtp TO popbsmtp_postfix;
