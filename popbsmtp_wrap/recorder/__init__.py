"""What carries a login from a source into the store."""
