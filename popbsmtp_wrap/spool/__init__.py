"""Logins on disk while the database is down; what was acknowledged comes out of it again."""
