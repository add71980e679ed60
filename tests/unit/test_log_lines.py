"""Lines of logs that grow."""

from hypothesis import given
from hypothesis import strategies as st

from popbsmtp_wrap.sources.logs.growing import LONGEST_LINE, Lines

# Short and long lines, their ends, and what stands in a hole.
texts = st.lists(
    st.sampled_from([b"a", b"\n", b"\0", b"\xff", b"b" * LONGEST_LINE, b"c" * (LONGEST_LINE + 1)]),
    max_size=40,
).map(b"".join)


def expected(text):
    lines = [line.lstrip(b"\0") for line in text.split(b"\n")[:-1]]
    return [line for line in lines if len(line) <= LONGEST_LINE]


@given(texts, st.lists(st.integers(1, 3 * LONGEST_LINE), min_size=1, max_size=10))
def test_however_the_bytes_come_the_lines_are_the_same(text, sizes):
    lines, found, rest = Lines(7), [], text
    while rest:
        for size in sizes:
            found += lines.feed(rest[:size])
            rest = rest[size:]
    assert found == expected(text)
    assert lines.end == 7 + text.rfind(b"\n") + 1


def test_what_is_kept_of_a_line_without_an_end_is_bounded():
    lines = Lines()
    for _ in range(100):
        assert lines.feed(b"x" * 100_000) == []
        assert len(lines._rest) <= LONGEST_LINE
    assert lines.feed(b"rip=198.51.100.7\nnext\n") == [b"next"]


def test_a_hole_before_a_line_costs_nothing():
    lines = Lines()
    for _ in range(100):
        assert lines.feed(b"\0" * 100_000) == []
    assert lines.feed(b"line\n") == [b"line"]
    assert lines.end == 10_000_005
