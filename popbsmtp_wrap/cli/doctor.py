"""popbsmtp doctor."""

import click


@click.command()
def doctor() -> None:
    """Check every link of the chain, one line each."""
