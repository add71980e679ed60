"""Clients of the recorder's socket, for the toolkit, the watcher and doctor."""
