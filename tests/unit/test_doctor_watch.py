"""What the doctor says of watched logs."""

import pytest

from popbsmtp_wrap.config import Settings, Watch
from popbsmtp_wrap.doctor.watch import check_watch

LINE = "Jun 14 10:00:00 mx {}: Login failed\n"


@pytest.fixture
def findings(tmp_path):
    """Return a function: what is said of a log with these lines, and this syslog-ng."""

    def find(*tags, syslog_ng="", used=True, forgeable="refuse"):
        log, state = tmp_path / "mail.log", tmp_path / "state"
        log.write_text("".join(LINE.format(tag) for tag in tags))
        if used:
            state.mkdir(exist_ok=True)
        (tmp_path / "run").mkdir()
        (tmp_path / "etc" / "syslog-ng").mkdir(parents=True)
        name = "syslog-ng" if syslog_ng else "syslogd"
        (tmp_path / "run" / f"{name}.pid").touch()
        (tmp_path / "etc" / "syslog-ng" / "syslog-ng.conf").write_text(syslog_ng)
        watch = Watch(files=(str(log), "-"), state=str(state), forgeable=forgeable)
        return [*check_watch(Settings(watch=watch), str(tmp_path))]

    return find


DEFAULT = "source s_src { system(); internal(); };\n"
JOINED = 'source s_src { unix-dgram("/dev/log" flags(no-multi-line)); };\n'


@pytest.mark.parametrize(("forgeable", "level"), [("refuse", "FAIL"), ("record", "warn")])
def test_a_log_that_clients_can_write_into_is_named_with_the_fix(findings, forgeable, level):
    [finding] = findings("dovecot", "imap4d[7]", syslog_ng=DEFAULT, forgeable=forgeable)
    assert finding.level == level
    assert "imap4d" in finding.what
    assert "rewrite r_one_line" in finding.advice


def test_a_daemon_that_keeps_line_feeds_is_a_warning_before_anything_happens(findings):
    [finding] = findings("dovecot", syslog_ng=DEFAULT)
    assert finding.level == "warn"
    assert "syslog-ng" in finding.what
    assert "rewrite r_one_line" in finding.advice


@pytest.mark.parametrize(
    ("tags", "syslog_ng"),
    [(("dovecot",), ""), (("imap4d",), ""), (("imap4d", "dovecot"), JOINED)],
)
def test_a_daemon_that_joins_lines_is_fine(findings, tags, syslog_ng):
    [finding] = findings(*tags, syslog_ng=syslog_ng)
    assert finding.level == "ok"


def test_where_no_watcher_ever_ran_there_is_nothing_to_say(findings):
    assert findings("imap4d", syslog_ng=DEFAULT, used=False) == []


def test_a_log_that_is_not_there_fails(findings, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    watch = Watch(files=(str(tmp_path / "none.log"),), state=str(state))
    [finding] = check_watch(Settings(watch=watch), str(tmp_path))
    assert finding.level == "FAIL"
