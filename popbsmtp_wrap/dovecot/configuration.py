"""Dovecot's configuration for the wrapper, or for the sockets of the recorder.

Sources: the Dovecot manual, "Post-login scripting" (2.x); mail_executable in the example
configuration of 1.x. Dovecot splits these settings at single blanks and knows no quotes; two
blanks make an empty argument, and every login fails.
"""

from collections.abc import Sequence
from typing import Final

from popbsmtp_wrap.config import PostLogin, Recorder, Settings, Wrapper
from popbsmtp_wrap.errors import ConfigError

VERSIONS: Final = ("1", "2.3", "2.4")
SERVICES: Final = ("imap", "pop3")
# Where Debian and its children keep the mail programs.
LIBEXEC: Final = "/usr/lib/dovecot"


def wrapper_options(settings: Settings, config_path: str, default_path: str) -> list[str]:
    """Return the options the wrapper needs, as it does not read the configuration itself."""
    options = []
    if config_path != default_path:
        options += ["--config", config_path]
    if settings.recorder.socket != Recorder().socket:
        options += ["--socket", settings.recorder.socket]
    if settings.wrapper.wait != Wrapper().wait:
        options += ["--wait", f"{settings.wrapper.wait:g}"]
    return options


def configuration(
    version: str, command: list[str], options: list[str], user: str, extra_group: str
) -> str:
    """Return the text to paste for Dovecot *version* ("1", "2.3" or "2.4").

    *command* starts the wrapper; it runs as *user*, with *extra_group* where that is not empty.
    Raise ConfigError for a word that Dovecot would split.
    """
    _refuse_blanks(*command, *options)
    if version == "1":
        if len(command) > 1:
            # 1.x leaves only the name in argv[0] (child-process.c): Python would look for itself
            # in a PATH that a userdb field may have set.
            command = ["/usr/bin/env", *command]
        return _HEADER_1 + "".join(
            _SERVICE_1.format(
                service=service,
                executable=" ".join([*command, *options, f"{LIBEXEC}/{service}"]),
            )
            for service in SERVICES
        )
    group = f"  extra_groups = {extra_group}\n" if extra_group else ""
    return (_HEADER_24 if version == "2.4" else _HEADER_23) + "".join(
        _SERVICE_2.format(
            service=service,
            executable=" ".join([*command, "--service", service, *options, "--"]),
            user=user,
            group=group,
        )
        for service in SERVICES
    )


def socket_configuration(version: str, places: Sequence[PostLogin]) -> str:
    """Return the text to paste for Dovecot *version* ("2.3" or "2.4") and these sockets.

    Raise ConfigError for a path that Dovecot would split, and for two sockets of one service.
    """
    _refuse_blanks(*(place.path for place in places))
    paths: dict[str, str] = {}
    for place in places:
        if place.service in paths:
            raise ConfigError(
                f"recorder.postlogin: two sockets for service {place.service}, and Dovecot uses"
                f" one: {paths[place.service]}, {place.path}"
            )
        paths[place.service] = place.path
    header = (_HEADER_24 if version == "2.4" else _HEADER_23) + _FAILS_CLOSED
    return header + "".join(
        _SERVICE_SOCKET.format(service=service, path=path) for service, path in paths.items()
    )


def sessions_configuration(user: str) -> str:
    """Return the text that lets *user* ask which sessions are open.

    Dovecot does not start where there is no such user.
    """
    return _SESSIONS.format(user=user)


def postlogin_tables(folder: str) -> str:
    """Return the lines of popbsmtp.toml that make a socket in *folder* for each service."""
    return "\n".join(_TABLE.format(folder=folder, service=service) for service in SERVICES)


def _refuse_blanks(*words: str) -> None:
    for word in words:
        if not word or any(character.isspace() for character in word):
            raise ConfigError(
                f"{word!r} holds a blank, and Dovecot knows no quotes; use another path"
            )


_HEADER_1 = """\
# Dovecot 1.x: merge into dovecot.conf. The wrapper starts as root and the mail program drops its
# privileges, as it does without the wrapper.
"""
_SERVICE_1 = """\
protocol {service} {{
  mail_executable = {executable}
}}
"""
_HEADER_23 = """\
# Dovecot 2.0 to 2.3: save as conf.d/99-popbsmtp.conf or at the end of dovecot.conf.
"""
_HEADER_24 = """\
# Dovecot 2.4: save as conf.d/99-popbsmtp.conf or at the end of dovecot.conf, which begins with
# dovecot_config_version.
"""
_FAILS_CLOSED = """\
# A mailbox does not open while nobody listens on its socket. So let systemd hold the sockets
# (systemd/popbsmtp.socket): then logins wait while popbsmtp serve restarts.
"""
_SERVICE_SOCKET = """\
service {service} {{
  executable = {service} {path}
}}
"""
# The owner, not the group: 2.4.4 has a group of its own here, and root needs neither.
_SESSIONS = """\
# Clients that stay connected may go on sending: doveadm who asks this socket.
service anvil {{
  unix_listener anvil {{
    user = {user}
  }}
}}
"""
_TABLE = """\
[[recorder.postlogin]]
path = "{folder}/{service}-postlogin"
service = "{service}"
"""
_SERVICE_2 = """\
service {service} {{
  executable = {service} {service}-postlogin
}}
service {service}-postlogin {{
  executable = script-login {executable}
  user = {user}
{group}  unix_listener {service}-postlogin {{
  }}
}}
"""
