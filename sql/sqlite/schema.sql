-- The table of logins, SQLite 3.24 and newer. Equal to what `popbsmtp init` makes.
--
--   sqlite3 /var/lib/popbsmtp/popbsmtp.db < sql/sqlite/schema.sql
--
-- Then, once per file, as init does, so that Postfix reads while a login is written:
--
--   sqlite3 /var/lib/popbsmtp/popbsmtp.db 'PRAGMA journal_mode = WAL'

CREATE TABLE popbsmtp (
    -- As Postfix spells a client address. The only unique key.
    address TEXT NOT NULL,
    -- Unix seconds, always by the database's clock. Decides who may relay; only moves forward.
    last_seen INTEGER DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)) NOT NULL,
    -- When the row was made.
    first_seen INTEGER DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)) NOT NULL,
    -- Who logged in, and by which service (imap, pop3). For people only; may be NULL.
    username TEXT,
    service TEXT,
    PRIMARY KEY (address)
);

-- For expire and list. Lookups use the primary key.
CREATE INDEX popbsmtp_last_seen ON popbsmtp (last_seen);
