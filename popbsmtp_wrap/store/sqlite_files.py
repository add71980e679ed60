"""The files of an SQLite store: who may read and write them."""

import contextlib
import grp
import os
import pwd
from urllib.parse import unquote, urlsplit

from popbsmtp_wrap import safe_files
from popbsmtp_wrap.config import Database
from popbsmtp_wrap.errors import RefusedError

# Postfix reads the database with its primary group only: its daemons drop all others. A reader of
# a database in WAL mode has to create the -shm file, and the writer has to write that one again.
READER_GROUP = "postfix"
WRITER_USER = "popbsmtp"
DIRECTORY_MODE = 0o2770
FILE_MODE = 0o660


def path_of(database: Database) -> str:
    """Return the path of the SQLite database."""
    return unquote(urlsplit(database.url).path)[1:]


def identity(path: str) -> str | None:
    """Return device and inode of the file at *path*, None when no file is there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return f"{status.st_dev}:{status.st_ino}"


def prepare(database: Database) -> list[str]:
    """Create directory and file with the modes they need; return lines on what was done.

    What exists keeps its owner and mode. Raise RefusedError when it cannot be made.
    """
    path = path_of(database)
    directory, name = os.path.split(path)
    owner = _new_owner()
    done = []
    try:
        if safe_files.make_directory(directory, DIRECTORY_MODE, owner):
            done.append(f"created {directory} ({_owners(directory)}, mode {DIRECTORY_MODE:04o})")
        with safe_files.directory(directory) as place:
            if safe_files.make_file(place, name, FILE_MODE, owner):
                done.append(f"created {path} ({_owners(path)}, mode {FILE_MODE:04o})")
    except OSError as error:
        raise RefusedError(f"{error.filename or path}: {error.strerror}") from None
    return done


def _new_owner() -> safe_files.Owner | None:
    """Return the writer's user and Postfix's group, where root does it and they exist."""
    if os.geteuid() != 0:
        return None
    uid = gid = -1
    with contextlib.suppress(KeyError):
        uid = pwd.getpwnam(WRITER_USER).pw_uid
    with contextlib.suppress(KeyError):
        gid = grp.getgrnam(READER_GROUP).gr_gid
    return safe_files.Owner(uid, gid)


def _owners(path: str) -> str:
    status = os.stat(path)
    try:
        return f"{pwd.getpwuid(status.st_uid).pw_name}:{grp.getgrgid(status.st_gid).gr_name}"
    except KeyError:
        return f"{status.st_uid}:{status.st_gid}"
