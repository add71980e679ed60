-- The table of logins, MySQL 5.7, MariaDB 10.3 and newer. Equal to what `popbsmtp init` makes.
--
--   mariadb mail < sql/mysql/schema.sql

CREATE TABLE popbsmtp (
    -- As Postfix spells a client address. The only unique key: a second one would make the
    -- upsert unsafe for statement-based replication, and prone to deadlocks.
    address VARCHAR(45) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Always by the database's clock. Decides who may relay; only moves forward. Not DATETIME:
    -- that is another moment in each session's time zone. The default is explicit, or older
    -- servers would change the column at every UPDATE.
    last_seen TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    -- When the row was made.
    first_seen TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    -- Who logged in, and by which service (imap, pop3). For people only; may be NULL.
    username VARCHAR(255) CHARACTER SET utf8mb4,
    service VARCHAR(20) CHARACTER SET ascii,
    PRIMARY KEY (address),
    -- For expire and list. Lookups use the primary key.
    INDEX popbsmtp_last_seen (last_seen)
)ENGINE=InnoDB;
