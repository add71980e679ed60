"""Keeps launchers working that were installed before the wrapper moved to wrapper/."""
