"""What is written into the spool comes out as it went in, and nothing else does."""

import time
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popbsmtp_wrap.login import Login, make_login
from popbsmtp_wrap.spool.record import LONGEST_RECORD, format_record, parse_record
from popbsmtp_wrap.spool.timestamp import Stamp, age_s

BOOT = "7c1f1a5e-5d7c-4a44-8d5a-0e5e3f0f4b11"
OTHER_BOOT = "00000000-0000-4000-8000-000000000000"
STAMP = Stamp(BOOT, 5_000_000_001, 1_700_000_000_000_000_002)
LOGIN = make_login("2001:db8::7", "änne 100%", "imap", 3)
LINE = (
    b"spool/1\t65fd2a1f\t7c1f1a5e-5d7c-4a44-8d5a-0e5e3f0f4b11\t5000000001\t1700000000000000002\t3\t"
    b"popbsmtp/1\t2001:db8::7\t%C3%A4nne%20100%25\timap\n"
)
SECOND_NS = 1_000_000_000

nanoseconds = st.integers(0, 10**19 - 1)
stamps = st.builds(Stamp, st.sampled_from(["", BOOT, OTHER_BOOT]), nanoseconds, nanoseconds)
addresses = st.ip_addresses().map(lambda address: str(address).lower())
logins = st.builds(
    make_login,
    addresses,
    st.binary(max_size=300) | st.text(max_size=300),
    st.binary(max_size=30) | st.text(max_size=30),
    st.integers(0, 10**9),
)


def signed(content):
    """Return *content* as a record with the right CRC."""
    return b"spool/1\t%08x\t%s" % (crc32(content), content)


def test_record_looks_as_documented():
    assert format_record(LOGIN, STAMP) == LINE
    assert parse_record(LINE) == (LOGIN, STAMP)


@given(logins, stamps)
def test_every_login_comes_back_as_it_went(login, stamp):
    line = format_record(login, stamp)
    assert len(line) <= LONGEST_RECORD
    assert line.count(b"\n") == 1
    assert parse_record(line) == (login, stamp)


def test_longest_login_fits():
    login = make_login("f" * 4 + ":ffff" * 7, "\U0001f4e7" * 255, "\U0001f4e7" * 20, 10**9)
    stamp = Stamp(BOOT, 10**19 - 1, 10**19 - 1)
    assert parse_record(format_record(login, stamp)) == (login, stamp)


def test_name_that_is_no_utf8_loses_no_login():
    login, _ = parse_record(format_record(Login("192.0.2.1", "\udcff\n", "\ud800"), STAMP))
    assert login == Login("192.0.2.1", r"\udcff\n", r"\ud800")


@given(st.data(), logins, stamps)
def test_every_damaged_byte_is_noticed(data, login, stamp):
    line = bytearray(format_record(login, stamp))
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        parse_record(bytes(line))


@pytest.mark.parametrize("place", range(len(LINE)))
def test_no_byte_of_a_record_can_be_another(place):
    for byte in set(range(256)) - {LINE[place]}:
        with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
            parse_record(LINE[:place] + bytes([byte]) + LINE[place + 1 :])


@given(st.data(), logins, stamps)
def test_every_truncation_is_noticed(data, login, stamp):
    line = format_record(login, stamp)
    place = data.draw(st.integers(1, len(line) - 1))
    for part in (line[:place], line[place:]):
        with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
            parse_record(part)


@given(st.lists(st.binary(max_size=60), max_size=9).map(b"\t".join))
def test_any_line_is_a_record_or_a_value_error(content):
    for line in (content, content + b"\n", signed(content), signed(content + b"\n")):
        try:
            login, stamp = parse_record(line)
        except ValueError:
            continue
        assert parse_record(format_record(login, stamp)) == (login, stamp)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\t1\t1\t0\tpopbsmtp/1\t192.0.2.1\t\t",
        b"\t1\t1\tpopbsmtp/1\t192.0.2.1\t\t\n",
        b"\t-1\t1\t0\tpopbsmtp/1\t192.0.2.1\t\t\n",
        b"\t1\t+1\t0\tpopbsmtp/1\t192.0.2.1\t\t\n",
        b"\t1\t1_0\t0\tpopbsmtp/1\t192.0.2.1\t\t\n",
        b"\t1\t1\t0.5\tpopbsmtp/1\t192.0.2.1\t\t\n",
        b"\t1\t1\t-5\tpopbsmtp/1\t192.0.2.1\t\t\n",
        b"\t1\t1\t\xd9\xa3\tpopbsmtp/1\t192.0.2.1\t\t\n",
        b"\t1\t12345678901234567890\t0\tpopbsmtp/1\t192.0.2.1\t\t\n",
        b"\t1\t1\t0\tpopbsmtp/2\t192.0.2.1\t\t\n",
        b"\t1\t1\t0\tpopbsmtp/1\t127\t\t\n",
        b"\t1\t1\t0\tpopbsmtp/1\tunknown\t\t\n",
        b"\t1\t1\t0\tpopbsmtp/1\tfe80::1%25eth0\t\t\n",
        b"\t1\t1\t0\tpopbsmtp/1\t192.0.2.0/24\t\t\n",
        b"\t1\t1\t0\tpopbsmtp/1\t192.0.2.1\ta b\t\n",
        b"\t1\t1\t0\tpopbsmtp/1\t192.0.2.1\t" + b"a" * 4096 + b"\t\n",
        b"\t1\t1\t0\tpopbsmtp/1\t192.0.2.1\t" + b"a" * 4050 + b"\t\n",
        b"../../boot\t1\t1\t0\tpopbsmtp/1\t192.0.2.1\t\t\n",
        b"0" * 37 + b"\t1\t1\t0\tpopbsmtp/1\t192.0.2.1\t\t\n",
    ],
)
def test_right_crc_makes_no_record_of_anything_else(content):
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        parse_record(signed(content))


def test_address_comes_out_canonical():
    content = b"\t1\t1\t0\tpopbsmtp/1\t::ffff:192.0.2.1\t\t\n"
    assert parse_record(signed(content))[0] == Login("192.0.2.1")


def test_stamp_of_now_is_of_this_boot_and_of_these_clocks():
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
    stamp = Stamp.now()
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        assert stamp.boot_id + "\n" == file.read()
    assert before[0] <= stamp.boot_ns <= after[0]
    assert before[1] <= stamp.wall_ns <= after[1]


def later(seconds, *, wall=0.0, boot_id=BOOT):
    """Return the stamp *seconds* after STAMP by the boot clock, *wall* more by the other."""
    return Stamp(
        boot_id,
        STAMP.boot_ns + int(seconds * SECOND_NS),
        STAMP.wall_ns + int((seconds + wall) * SECOND_NS),
    )


@pytest.mark.parametrize("step_s", [-(10**9), -3600, -61, 0, 61, 3600, 10**8])
def test_age_within_one_boot_is_immune_to_steps_of_the_wall_clock(step_s):
    assert age_s(STAMP, later(12.5, wall=step_s)) == 12.5


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(0, 0), (12.5, 12.5), (86400, 86400), (-0.5, 0), (-59, 0), (-60, 0), (-60.1, None)],
)
def test_age_after_a_reboot_is_that_of_the_wall_clock(seconds, age):
    for boot_id in (OTHER_BOOT, ""):
        now = later(0, wall=seconds, boot_id=boot_id)
        assert age_s(STAMP, now) == age


def test_unknown_boots_are_not_the_same():
    stamp = STAMP._replace(boot_id="")
    assert age_s(stamp, Stamp("", 0, STAMP.wall_ns + 7 * SECOND_NS)) == 7


@given(stamps, stamps)
def test_age_is_never_negative(stamp, now):
    age = age_s(stamp, now)
    assert age is None or age >= 0
