-- Three accounts with the least that each needs, MySQL 5.7, MariaDB 10.4 and newer. After
-- schema.sql, as an account with CREATE USER and GRANT OPTION, in the table's database:
--
--   mariadb mail < sql/mysql/roles.sql
--
-- They are locked and have no password yet, so that nobody logs in with a known one. For each:
--
--   ALTER USER popbsmtp_writer@'%' IDENTIFIED BY '...' ACCOUNT UNLOCK;
--
-- '%' is any host. RENAME USER popbsmtp_writer@'%' TO popbsmtp_writer@'192.0.2.20' makes it one.

-- Records, revokes and lists: INSERT ... ON DUPLICATE KEY UPDATE, which asks for UPDATE and SELECT
-- on the whole table. It cannot delete.
CREATE USER 'popbsmtp_writer'@'%' ACCOUNT LOCK;
GRANT SELECT, INSERT, UPDATE ON popbsmtp TO 'popbsmtp_writer'@'%';

-- Deletes what is old. It cannot see who logged in.
CREATE USER 'popbsmtp_expirer'@'%' ACCOUNT LOCK;
GRANT SELECT (address, last_seen), DELETE ON popbsmtp TO 'popbsmtp_expirer'@'%';

-- Looks up. It cannot see who logged in.
CREATE USER 'popbsmtp_postfix'@'%' ACCOUNT LOCK;
GRANT SELECT (address, last_seen) ON popbsmtp TO 'popbsmtp_postfix'@'%';
