"""How an MTA asks."""
