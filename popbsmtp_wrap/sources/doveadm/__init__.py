"""The sessions that are open in Dovecot, as doveadm tells them."""
