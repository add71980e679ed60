"""Whether the user that Dovecot runs the wrapper as may use what the wrapper needs."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from popbsmtp_wrap.config import DEFAULT_PATH, Recorder, Settings, files_of
from popbsmtp_wrap.doctor.finding import Finding
from popbsmtp_wrap.dovecot.doveconf import services, setting
from popbsmtp_wrap.store.sqlite_files import path_of


@dataclass(frozen=True)
class Runner:
    """Who runs the wrapper, and which configuration it reads."""

    user: str
    groups: tuple[str, ...]
    config_path: str


def runners(text: str, internal_user: str) -> Iterator[Runner]:
    """Yield whom each post-login service of *text* (doveconf -n) runs the wrapper as."""
    for _, body in services(text):
        executable = setting(body, "executable")
        if "script-login" not in executable or "popbsmtp" not in executable:
            continue
        user = setting(body, "user") or "root"
        words = executable.split(" ")
        named = words.index("--config") + 1 if "--config" in words[:-1] else 0
        yield Runner(
            internal_user if user.startswith("$") else user,
            tuple(setting(body, "extra_groups").replace(",", " ").split()),
            words[named] if named else DEFAULT_PATH,
        )


def check_access(settings: Settings, config_path: str, runner: Runner) -> Iterator[Finding]:
    """Yield findings on what *runner* cannot use. Only root can try it for another user."""
    if os.path.abspath(runner.config_path) != os.path.abspath(config_path):
        yield Finding(
            "warn",
            f"Dovecot's wrapper reads {runner.config_path}",
            f"run: popbsmtp -c {runner.config_path} doctor",
        )
        return
    try:
        pwd.getpwnam(runner.user)
    except KeyError:
        yield Finding("FAIL", f"there is no user {runner.user}: no login works", "run: adduser")
        return
    if os.geteuid() != 0:
        return
    files = [*files_of(config_path), settings.database.password_file]
    wanted = [(path, "-r") for path in files]
    if settings.database.dialect == "sqlite":
        path = path_of(settings.database)
        wanted += [(path, "-w"), (os.path.dirname(path), "-w")]
    denied = [(path, how) for path, how in wanted if path and not _may(runner, path, how)]
    for path, how in denied:
        action = "read" if how == "-r" else "write"
        yield Finding(
            "FAIL",
            f"{runner.user}, who runs the wrapper, may not {action} {path}",
            f"run: chgrp {runner.user} {path}; chmod g+{how[1]} {path}",
        )
    if not denied:
        yield Finding("ok", f"{runner.user}, who runs the wrapper, may use what it needs")
    if os.path.exists(settings.recorder.socket):
        yield _check_connection(settings.recorder, runner)


def _check_connection(recorder: Recorder, runner: Runner) -> Finding:
    """Return the finding whether *runner* gets to the recorder, and is let in there."""
    who = f"{runner.user}, who runs the wrapper,"
    if not _may(runner, recorder.socket, "-w"):
        return Finding(
            "FAIL",
            f"{who} may not connect to {recorder.socket}",
            "set socket_group or socket_mode of [recorder], and open the directory",
        )
    if runner.user not in ("root", recorder.user, *recorder.users):
        return Finding(
            "FAIL", f"{who} is not let in by the recorder", "name it in users of [recorder]"
        )
    return Finding("ok", f"{who} may connect to {recorder.socket}")


def _may(runner: Runner, path: str, how: str) -> bool:
    """Try it as the user, with the groups that Dovecot gives: none but these."""
    account = pwd.getpwnam(runner.user)
    done = subprocess.run(
        ["test", how, path],
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=list(runner.groups),
        check=False,
    )
    return done.returncode == 0
