"""The one SQL table."""
