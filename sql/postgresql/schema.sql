-- The table of logins, PostgreSQL 9.5 and newer. Equal to what `popbsmtp init` makes.
--
--   psql --dbname=mail --file=sql/postgresql/schema.sql

CREATE TABLE popbsmtp (
    -- As Postfix spells a client address. The only unique key.
    address VARCHAR(45) NOT NULL,
    -- Always by the database's clock. Decides who may relay; only moves forward. With a time
    -- zone: a timestamp without one is another moment in each session's zone.
    last_seen TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP NOT NULL,
    -- When the row was made.
    first_seen TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP NOT NULL,
    -- Who logged in, and by which service (imap, pop3). For people only; may be NULL.
    username VARCHAR(255),
    service VARCHAR(20),
    PRIMARY KEY (address)
);

-- For expire and list. Lookups use the primary key.
CREATE INDEX popbsmtp_last_seen ON popbsmtp (last_seen);
