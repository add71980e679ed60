"""Commands that print or write configuration for Postfix and Dovecot."""

import grp
import os
import pwd
import re
import sys

import click

from popbsmtp_wrap import config
from popbsmtp_wrap.cli.context import ADDRESS, Invocation, pass_invocation
from popbsmtp_wrap.doctor.access import Runner, check_access
from popbsmtp_wrap.dovecot import configuration as source
from popbsmtp_wrap.errors import ConfigError, PopbsmtpError
from popbsmtp_wrap.postfix import map_files
from popbsmtp_wrap.postfix import maps as lookup
from popbsmtp_wrap.wrapper import installer

# default_internal_user, unless somebody has changed it.
DOVECOT_USER = "dovecot"
POSTFIX_DIRECTORY = "/etc/postfix"


class VersionType(click.ParamType):
    """A Postfix version, as (major, minor)."""

    name = "version"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> lookup.Version:
        """Return (major, minor)."""
        try:
            return lookup.parse_version(str(value))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


@click.command()
@click.option(
    "--output",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Write the map file here (mode 0640 root:postfix).",
)
@click.option("--for", "version", metavar="VERSION", type=VersionType(), help="For this Postfix.")
@click.option("--check", "address", metavar="ADDRESS", type=ADDRESS, help="Ask the live map.")
@pass_invocation
def postfix(
    invocation: Invocation,
    output: str | None,
    version: lookup.Version | None,
    address: str | None,
) -> None:
    """Print or write Postfix's map file and main.cf lines.

    The lines for main.cf go to standard output. Without --output the map file is shown, with its
    password masked. --check ADDRESS asks the map in DIR (default /etc/postfix) through postmap:
    exit status 0 if it permits, 1 if not.
    """
    settings = invocation.settings()
    directory = os.path.abspath(output or POSTFIX_DIRECTORY)
    if address is not None:
        kind = lookup.MAP_TYPES[settings.database.dialect]
        table = f"{kind}:{directory}/{lookup.map_name(settings)}"
        if not map_files.ask(address, table):
            raise PopbsmtpError(f"{address} may not relay ({table})")
        click.echo(f"{address} may relay ({table})")
        return
    version = version or map_files.installed_version()
    written = lookup.map_files(settings, directory, version)
    lines = lookup.main_cf(settings, directory, version)
    if output:
        extra = lookup.MapFile(lookup.MAIN_CF_FILE, lines)
        for path in map_files.write([*written, extra], directory):
            click.echo(f"wrote {path}", err=True)
            if hint := map_files.owners_hint(path):
                click.echo(hint, err=True)
    else:
        for file in written:
            click.echo(f"# {directory}/{file.name} (--output DIR writes it)")
            click.echo(_without_password(file.text))
        click.echo("# main.cf")
    click.echo(lines, nl=False)


def _without_password(text: str) -> str:
    hidden = re.sub(r"(?m)^password = .+$", "password = ***", text)
    return re.sub(r"(password=)'(?:[^'\\]|\\.)*'", r"\1***", hidden)


@click.command()
@click.option(
    "--for",
    "version",
    type=click.Choice(source.VERSIONS),
    default="2.3",
    show_default=True,
    help="For this Dovecot.",
)
@click.option(
    "--mode",
    type=click.Choice(["wrapper", "socket"]),
    default="wrapper",
    show_default=True,
    help="How logins reach the store.",
)
@click.option("--user", metavar="NAME", help="Run the wrapper as this user.")
@click.option("--wrapper", metavar="PATH", help="Start this wrapper.")
@click.option(
    "--install-wrapper",
    "install",
    metavar="PATH",
    help="Write the launcher of the wrapper to PATH and use it.",
)
@pass_invocation
def dovecot(
    invocation: Invocation,
    version: str,
    mode: str,
    user: str | None,
    wrapper: str | None,
    install: str | None,
) -> None:
    """Print Dovecot's configuration, ready to paste.

    With --mode wrapper Dovecot starts popbsmtp-wrap at each login. With --mode socket it asks the
    sockets of popbsmtp serve ([[recorder.postlogin]]) and starts nothing.
    """
    settings = invocation.settings()
    path = os.path.abspath(invocation.config_path)
    if mode == "socket":
        if user or wrapper or install:
            raise click.UsageError("--mode socket starts no wrapper.")
        _print_sockets(settings, path, version)
        return
    if install:
        installer.install(install, installer.launcher_text())
        click.echo(f"wrote {install}", err=True)
    chosen = install or wrapper
    command = [os.path.abspath(chosen)] if chosen else installer.command_beside(sys.argv[0])
    options = source.wrapper_options(settings, path, config.DEFAULT_PATH)
    group = ""
    if settings.database.dialect == "sqlite" and _exists(grp.getgrnam, "postfix"):
        group = "postfix"
    runs_as = user or _user(version)
    click.echo(source.configuration(version, command, options, runs_as, group), nl=False)
    if version != "1":
        _print_sessions(settings)
        _warn_of_access(settings, path, runs_as, group)


def _print_sockets(settings: config.Settings, path: str, version: str) -> None:
    """Print the configuration for the sockets; say which of them are not there yet."""
    if version == "1":
        raise click.UsageError("Dovecot 1.x has no post-login sockets; use --mode wrapper.")
    places = settings.recorder.postlogin
    if not places:
        tables = source.postlogin_tables(os.path.dirname(settings.recorder.socket))
        raise ConfigError(f"{path} names no post-login socket; add:\n\n{tables}")
    click.echo(source.socket_configuration(version, places), nl=False)
    _print_sessions(settings)
    for place in places:
        if _is_missing(place.path):
            click.echo(
                f"popbsmtp: {place.path} does not exist: no {place.service} login works while"
                " nobody listens there; start popbsmtp serve before Dovecot reads this",
                err=True,
            )


def _print_sessions(settings: config.Settings) -> None:
    """Print what lets the recorder's user ask for open sessions, unless it needs nothing."""
    user = settings.recorder.user
    if not settings.renew or user in ("", "root"):
        return
    if _exists(pwd.getpwnam, user):
        click.echo(source.sessions_configuration(user), nl=False)
    else:
        click.echo(
            f"popbsmtp: there is no user {user}, whom Dovecot has to let ask for open sessions;"
            " add the user, then print this again",
            err=True,
        )


def _warn_of_access(settings: config.Settings, path: str, user: str, group: str) -> None:
    """Say what the wrapper will not be able to use, as far as this machine can tell."""
    runner = Runner(DOVECOT_USER if user.startswith("$") else user, (group,) if group else (), path)
    for finding in check_access(settings, path, runner):
        if finding.level != "ok":
            click.echo(f"popbsmtp: {finding.what}; {finding.advice}", err=True)


def _user(version: str) -> str:
    """Return who runs the wrapper: our own user where there is one, else Dovecot's."""
    if _exists(pwd.getpwnam, "popbsmtp"):
        return "popbsmtp"
    return "$SET:default_internal_user" if version == "2.4" else "$default_internal_user"


def _is_missing(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # a directory that is closed for us says nothing about Dovecot
    return False


def _exists(find: object, name: str) -> bool:
    try:
        find(name)  # type: ignore[operator]  # pwd.getpwnam or grp.getgrnam
    except KeyError:
        return False
    return True
