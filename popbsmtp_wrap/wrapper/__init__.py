"""What Dovecot execs at each login: popbsmtp-wrap."""
