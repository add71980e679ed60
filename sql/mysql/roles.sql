-- Three accounts with the least that each needs, MySQL 5.7, MariaDB 10.3 and newer. After
-- schema.sql, as an account with CREATE USER and GRANT OPTION, in the table's database.
--
-- First replace the three passwords, and '%' by the host that connects:
--
--   mariadb mail < sql/mysql/roles.sql

-- Records a login: INSERT ... ON DUPLICATE KEY UPDATE, which asks for UPDATE and SELECT on the
-- whole table. It cannot delete.
CREATE USER 'popbsmtp_writer'@'%' IDENTIFIED BY 'CHOOSE-WRITER-PASSWORD';
GRANT SELECT, INSERT, UPDATE ON popbsmtp TO 'popbsmtp_writer'@'%';

-- Deletes what is old. It cannot see who logged in.
CREATE USER 'popbsmtp_expirer'@'%' IDENTIFIED BY 'CHOOSE-EXPIRER-PASSWORD';
GRANT SELECT (address, last_seen), DELETE ON popbsmtp TO 'popbsmtp_expirer'@'%';

-- Looks up. It cannot see who logged in.
CREATE USER 'popbsmtp_postfix'@'%' IDENTIFIED BY 'CHOOSE-POSTFIX-PASSWORD';
GRANT SELECT (address, last_seen) ON popbsmtp TO 'popbsmtp_postfix'@'%';
