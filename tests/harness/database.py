"""What the two SQL servers have in common."""

from urllib.parse import quote

from .ports import HOSTS
from .process import PASSWORD, Server


class Database(Server):
    """A server with one administrator, who has a password."""

    scheme: str
    superuser: str
    password = PASSWORD
    host = HOSTS[0]
    port: int

    def url(self, database: str, user: str | None = None, password: str | None = None) -> str:
        """Return a URL for TCP; without *user*, that of the administrator."""
        if user is None:
            user, password = self.superuser, self.password
        secret = "" if password is None else ":" + quote(password, safe="")
        name = quote(user, safe="")
        return f"{self.scheme}://{name}{secret}@{self.host}:{self.port}/{database}"
