"""Dovecot: the configuration that it reads, and what doveconf and doveadm say."""
