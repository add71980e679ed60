"""Which programs and syslog daemons let a client write lines of a log."""

import pytest

from popbsmtp_wrap.logs.forgery import advice, raw_program, syslog_daemons

STAMP = b"Jun 14 10:00:00 mx "


@pytest.mark.parametrize(
    "tag",
    [b"imap4d[77]", b"imap4d", b"perdition.imap4[5]", b"perdition[5]", b"saslauthd[1]"],
)
@pytest.mark.parametrize("header", [STAMP, b"2026-06-14T10:00:00.123456+02:00 mx ", b""])
def test_a_program_that_logs_what_clients_send_is_noticed_anywhere(tag, header):
    line = header + tag + b": Login failed: user=x"
    other = STAMP + b"dovecot: imap-login: Disconnected"
    name = tag.partition(b"[")[0].decode()
    for lines in ([line], [other, line], [line, other], [other] * 500 + [line]):
        assert raw_program(lines) == name


@pytest.mark.parametrize(
    "line",
    [
        b"dovecot: imap-login: Login: user=<imap4d: x>, method=PLAIN, rip=198.51.100.7",
        b"dovecot: imap-login: Login: user=<imap4d[7]:>, rip=198.51.100.7",
        b"imap4dx[7]: Login failed",
        b"ximap4d[7]: Login failed",
        b"postfix/smtpd[7]: warning: imap4d: no such user",
        b"",
    ],
)
def test_only_the_tag_of_a_line_counts(line):
    assert raw_program([STAMP + line, line]) == ""


def machine(root, *running, files=None):
    """Return *root* as that of a machine where these run and that has *files*, by path."""
    for number, name in enumerate(running, start=1):
        place = root / "proc" / str(number)
        place.mkdir(parents=True)
        (place / "comm").write_text(f"{name}\n")
    for name, text in (files or {}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


SYSLOG_NG, RSYSLOG = "etc/syslog-ng/syslog-ng.conf", "etc/rsyslog.conf"
DEBIAN = "source s_src {\n       system();\n       internal();\n};\n"
JOINED = 'source s { unix-dgram("/dev/log" flags(no-multi-line)); };\n'
REWRITTEN = (
    DEBIAN + 'rewrite r_one_line { subst("[\\\\x00-\\\\x1f]", " ", value("MESSAGE"),'
    ' type("pcre"), flags("global")); };\n'
)


@pytest.mark.parametrize(
    ("text", "keeps"),
    [
        (DEBIAN, True),
        (f"{DEBIAN}# flags(no-multi-line)\n", True),
        (DEBIAN + 'rewrite r { subst("a", "b", value("MESSAGE")); };', True),
        (JOINED, False),
        (REWRITTEN, False),
    ],
)
def test_syslog_ng_keeps_line_feeds_unless_told(tmp_path, text, keeps):
    root = machine(tmp_path, "syslog-ng", files={SYSLOG_NG: text})
    [daemon] = syslog_daemons(root)
    assert (daemon.name, daemon.keeps) == ("syslog-ng", keeps)
    assert bool(advice([daemon])) is keeps
    if keeps:
        assert "rewrite r_one_line" in advice([daemon])
        assert "watch.journal" in advice([daemon])


@pytest.mark.parametrize(
    ("text", "keeps"),
    [
        ('module(load="imuxsock")\n', False),
        ("# $EscapeControlCharactersOnReceive off\n", False),
        ("$EscapeControlCharactersOnReceive on\n", False),
        ("$EscapeControlCharactersOnReceive off\n", True),
        ("$escapecontrolcharactersonreceive  OFF\n", True),
        ('global(parser.escapeControlCharactersOnReceive="off")\n', True),
        ('global(\n  parser.escapeControlCharactersOnReceive = "off"\n)\n', True),
    ],
)
@pytest.mark.parametrize("place", [RSYSLOG, "etc/rsyslog.d/10-mail.conf"])
def test_rsyslog_keeps_line_feeds_only_if_told(tmp_path, text, keeps, place):
    root = machine(tmp_path, "rsyslogd", files={RSYSLOG: "", place: text})
    [daemon] = syslog_daemons(root)
    assert (daemon.name, daemon.keeps) == ("rsyslog", keeps)


def test_a_daemon_that_hides_its_process_shows_by_its_pid_file(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "syslog-ng.pid").write_text("7\n")
    [daemon] = syslog_daemons(str(tmp_path))
    # Without a configuration nobody knows, and that is not safe.
    assert daemon.keeps is None
    assert advice([daemon])


def test_one_of_two_daemons_that_keeps_line_feeds_is_enough(tmp_path):
    files = {SYSLOG_NG: DEBIAN, RSYSLOG: ""}
    daemons = syslog_daemons(machine(tmp_path, "rsyslogd", "syslog-ng", "bash", files=files))
    assert [daemon.keeps for daemon in daemons] == [True, False]
    assert advice(daemons)


def test_no_daemon_is_not_known_to_be_safe(tmp_path):
    assert syslog_daemons(machine(tmp_path, "bash")) == []
    assert 'forgeable = "record"' in advice([])
    assert advice(syslog_daemons(machine(tmp_path / "2", "syslogd"))) == ""
