"""All errors raised deliberately: what happened, where, what to do, and the exit status.

Exit statuses are those of sysexits.h. Shown once, in cli/main.py.
"""


class PopbsmtpError(Exception):
    """The root of the tree: a negative answer or a failed check."""

    exit_code = 1
    # Whether the database may refuse just the logins that met this, and take others.
    in_doubt = False


class ConfigError(PopbsmtpError):
    """The configuration, or the table it names, is not as it has to be (EX_CONFIG)."""

    exit_code = 78


class SchemaError(ConfigError):
    """The table is missing or is not the one that the configuration describes."""


class RefusedError(PopbsmtpError):
    """Somebody lacks a permission (EX_NOPERM)."""

    exit_code = 77


class RowRefusedError(RefusedError):
    """The database will never take this login as it is: a constraint, a trigger, a length."""


class MisfitError(RowRefusedError):
    """A value of this login does not fit its column."""


class StoreUnavailableError(PopbsmtpError):
    """The database gives no answer now; later it may (EX_TEMPFAIL)."""

    exit_code = 75


class LockedError(StoreUnavailableError):
    """Another transaction holds the row or the table for too long."""


class FileReplacedError(StoreUnavailableError):
    """The file of the database is no longer the one at its path; a new connection finds that."""


class SpoolError(PopbsmtpError):
    """Logins cannot wait on disk now; nothing that was acknowledged is lost (EX_TEMPFAIL)."""

    exit_code = 75


class SpoolBusyError(SpoolError):
    """Another recorder or flush uses the spool."""


class ServiceUnavailableError(PopbsmtpError):
    """A program or service that is needed is not there (EX_UNAVAILABLE)."""

    exit_code = 69


class InternalError(PopbsmtpError):
    """A bug: something that no code was written for (EX_SOFTWARE)."""

    exit_code = 70


class BadValueError(ValueError):
    """What was expected; the loader adds file, key and what was found."""

    def __init__(self, expected: str, *found: object) -> None:
        super().__init__(expected)
        self.found = found
