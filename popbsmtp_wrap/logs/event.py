"""What a line of a log says."""

from typing import Literal, NamedTuple

Kind = Literal["login", "logout", "failure"]


class Event(NamedTuple):
    """A login, a logout or a failure.

    The address is canonical, and "" for a failure. What the line does not say is "". The stamp is
    the line's own time as it stands there; see times.moment().
    """

    kind: Kind
    server: str
    address: str
    user: str
    service: str
    stamp: str
