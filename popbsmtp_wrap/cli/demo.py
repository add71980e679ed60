"""popbsmtp demo."""

import click


@click.command()
def demo() -> None:
    """Show the whole way on a temporary SQLite store."""
