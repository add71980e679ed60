"""POP-before-SMTP for Dovecot and Postfix."""

__version__ = "0.1.0"
