"""Private Postfix servers that accept mail and let none of it out."""

import contextlib
import os
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from . import reaper
from .directories import give, write
from .ports import free_port, listening
from .process import Server, wait_until

_MAIN: dict[str, str] = {
    "compatibility_level": "3.6",
    "inet_interfaces": "loopback-only",
    "inet_protocols": "all",
    "myhostname": "mail.example.org",
    "mydomain": "example.org",
    "mydestination": "example.org",
    "mynetworks": "192.0.2.255/32",
    "smtpd_authorized_xclient_hosts": "127.0.0.0/8, [::1]",
    # ::1 is in no zone and often not in /etc/hosts: each connection would wait for the resolver.
    "smtpd_peername_lookup": "no",
    "smtpd_error_sleep_time": "0",
    "local_recipient_maps": "",
    "alias_maps": "",
    "alias_database": "",
    # Nothing leaves: no transport but discard exists in master.cf. The log tells them apart.
    "local_transport": "discard:local",
    "default_transport": "discard:relayed",
    "relay_transport": "discard:relayed",
    "disable_dns_lookups": "yes",
    # Debian's maildrop and notify scripts are not here to be run.
    "notify_classes": "",
    "maillog_file_permissions": "0644",
}

_MASTER = """\
127.0.0.1:{port} inet n - {jail} - - smtpd
[::1]:{port} inet n - {jail} - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
{probe} unix n - n - 0 discard
"""

# Owner and mode of each queue directory: /etc/postfix/postfix-files.
_QUEUE = {
    **dict.fromkeys(
        ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold"), ("postfix", 0o700)
    ),
    **dict.fromkeys(("incoming", "private", "saved", "trace"), ("postfix", 0o700)),
    "maildrop": ("postfix:postdrop", 0o730),
    "public": ("postfix:postdrop", 0o710),
    "pid": ("root", 0o755),
}


class Postfix(Server):
    """An smtpd on 127.0.0.1 and ::1 that believes XCLIENT; what it relays, it discards and logs.

    *main_cf* is appended to main.cf and wins. *files* are written beside main.cf with the given
    mode, root:postfix; main_cf names them as $config_directory/NAME. *chroot* is for smtpd alone.
    """

    name = "postfix"

    def __init__(
        self,
        base: Path,
        *,
        main_cf: str,
        chroot: bool = False,
        files: Mapping[str, tuple[bytes, int]] = {},
    ) -> None:
        super().__init__(base)
        self.port = free_port()
        self.config_directory = self.home / "etc"
        self.queue_directory = self.home / "spool"
        self._data_directory = self.home / "lib"
        self._mail_log = self.home / "mail.log"
        self._main_cf = main_cf
        self._chroot = chroot
        self._files = files
        self._reloads = 0

    def prepare(self) -> None:
        for directory in (self.config_directory, self.queue_directory, self._data_directory):
            directory.mkdir()
            directory.chmod(0o755)
        give(self._data_directory, "postfix", mode=0o700)
        for name, (owner, mode) in _QUEUE.items():
            (self.queue_directory / name).mkdir()
            give(self.queue_directory / name, owner, mode=mode)
        self.write_main_cf(self._main_cf)
        self._write_master_cf()
        for name, (content, mode) in self._files.items():
            self.write_file(name, content, mode)

    def write_main_cf(self, main_cf: str) -> None:
        """Replace what was appended to main.cf; reload() lets it count."""
        own = {
            "queue_directory": str(self.queue_directory),
            "data_directory": str(self._data_directory),
            "maillog_file": str(self._mail_log),
            "maillog_file_prefixes": str(self.home),
        }
        # A parameter that stands twice would be a warning in every log line.
        given = set(re.findall(r"^(\w+)\s*=", main_cf, re.MULTILINE))
        lines = (f"{key} = {value}\n" for key, value in (_MAIN | own).items() if key not in given)
        self.write_file("main.cf", f"{''.join(lines)}{main_cf}\n".encode(), 0o644)

    def write_file(self, name: str, content: bytes, mode: int) -> Path:
        """Return the path of a file beside main.cf, root:postfix."""
        path = write(self.config_directory / name, content, mode=mode, owner="root:postfix")
        # Postfix reads a file again and again until its mtime lies two seconds back, in case
        # that it is still being written (util/dict.c, dict_load_file_xt()).
        past = time.time() - 60
        os.utime(path, (past, past))
        return path

    def command(self) -> list[str]:
        # Not "postfix start-fg": its scripts check and mend what system instances share.
        return ["/usr/lib/postfix/sbin/master", "-c", str(self.config_directory), "-s"]

    def is_ready(self) -> bool:
        # It listens first; a SIGHUP that comes before its handler would end it.
        return listening(self.port) and reaper.catches(self.root, signal.SIGHUP)

    def reload(self) -> None:
        """Return when the next connection will meet the new configuration.

        The old processes leave as soon as they are idle. One that still has a client is waited
        for during 2 s and then left alone, as Postfix does.
        """
        old = [process for process in reaper.tree(self.root) if process.pid != self.pid]
        self._reloads += 1
        self._write_master_cf()
        self.send_signal(signal.SIGHUP)
        # The log would be no proof: postlogd is replaced as well, and a line of it may be lost.
        wait_until(self._probe.exists, 10, "postfix reload")
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not any(map(reaper.alive, old)), 2, "the old processes' end")

    @property
    def _probe(self) -> Path:
        """The socket of the last service in master.cf, new with each reload."""
        return self.queue_directory / "public" / f"reload-{self._reloads}"

    def _write_master_cf(self) -> None:
        text = _MASTER.format(
            port=self.port, jail="y" if self._chroot else "n", probe=self._probe.name
        )
        self.write_file("master.cf", text.encode(), 0o644)

    def log_text(self) -> str:
        """Return the mail log, after what the master printed itself."""
        path = self._mail_log
        return super().log_text() + (path.read_text(errors="replace") if path.exists() else "")
