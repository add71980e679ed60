"""Listening sockets, their connections, and a handler for each protocol."""
