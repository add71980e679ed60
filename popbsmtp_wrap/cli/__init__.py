"""The popbsmtp command."""
