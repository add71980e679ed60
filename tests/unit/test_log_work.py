"""No line takes much longer than others, whatever stands in it.

Measured against a login of the same server in the same run: all machines are as slow as they are.
"""

import re
import time

import pytest

from popbsmtp_wrap.logs.recogniser import LONGEST_LINE, Recogniser
from popbsmtp_wrap.logs.servers import SERVERS

# A line of 4096 bytes is some 30 normal ones long.
MOST_TIMES = 50
# A machine that does something else for this long is no finding.
NOISE_S = 0.002
TOKEN = re.compile(rb"[A-Za-z0-9]+|[^A-Za-z0-9]")
CLASSICAL = (b"a", b" ", b"=", b", ", b"a, ", b"user=<", b"rip=1.2.3.4, ", b", user=", b"[", b"]")
CLASSICAL += (
    b"<",
    b">",
    b"(",
    b"1.",
    b"::",
    b"\\",
    b'"',
    b"[a]",
    b'[a="',
    b'[a="b"]',
    b"/a",
    b".*",
)


def seconds(recogniser, line):
    """Return the best of three, so that other programs do not count."""
    best = float("inf")
    for _ in range(3):
        started = time.thread_time()
        recogniser.judge(line)
        best = min(best, time.thread_time() - started)
    return best


def long_lines(line):
    """Yield *line* with each of its tokens, and with strings that regular expressions fear."""
    for found in TOKEN.finditer(line):
        count = (LONGEST_LINE - len(line)) // len(found[0])
        yield line[: found.start()] + found[0] * count + line[found.end() :]
        yield (line[: found.start()] + found[0] * count)[:LONGEST_LINE]
    after_tag = line.find(b": ") + 2
    for text in CLASSICAL:
        long = text * (LONGEST_LINE // len(text))
        for place in (0, after_tag, len(line) // 2, len(line)):
            yield (line[:place] + long)[:LONGEST_LINE]
            yield (line[:place] + long)[: LONGEST_LINE - len(line) + place] + line[place:]


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_a_hostile_line_takes_no_more_than_its_length(server):
    recogniser = Recogniser()
    usual = max((seconds(recogniser, sample.line.encode()) for sample in server.samples), default=0)
    for sample in server.samples:
        for line in long_lines(sample.line.encode()):
            assert len(line) <= LONGEST_LINE
            taken = seconds(recogniser, line)
            assert taken < MOST_TIMES * usual + NOISE_S, line[:200]


def test_a_line_that_is_too_long_is_not_looked_at():
    line = b"Jun 14 10:00:00 mx imapd: LOGIN, user=bob, ip=[198.51.100.7]"
    recogniser = Recogniser()
    assert recogniser.recognise(line.ljust(LONGEST_LINE))
    assert recogniser.judge(line.ljust(LONGEST_LINE + 1)) == "longer than 4096 bytes"
