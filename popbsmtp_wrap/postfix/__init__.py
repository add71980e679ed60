"""Postfix: the map files and main.cf lines that it reads."""
