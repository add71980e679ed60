"""Logins from the lines that POP and IMAP servers log."""
