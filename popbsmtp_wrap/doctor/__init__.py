"""Checks of every link of the chain."""
