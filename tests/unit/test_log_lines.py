"""Lines of logs that grow."""

import io

from hypothesis import given
from hypothesis import strategies as st

from popbsmtp_wrap.logs.file_lines import read_blocks
from popbsmtp_wrap.logs.line_buffer import LONGEST_LINE, LineBuffer

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
    lines, found, rest = LineBuffer(7), [], text
    while rest:
        for size in sizes:
            found += lines.feed(rest[:size])
            rest = rest[size:]
    assert found == expected(text)
    assert lines.end == 7 + text.rfind(b"\n") + 1


def test_what_is_kept_of_a_line_without_an_end_is_bounded():
    lines = LineBuffer()
    for _ in range(100):
        assert lines.feed(b"x" * 100_000) == []
        assert len(lines._rest) <= LONGEST_LINE
    assert lines.feed(b"rip=198.51.100.7\nnext\n") == [b"next"]


def test_a_hole_before_a_line_costs_nothing():
    lines = LineBuffer()
    for _ in range(100):
        assert lines.feed(b"\0" * 100_000) == []
    assert lines.feed(b"line\n") == [b"line"]
    assert lines.end == 10_000_005


@given(texts, st.integers(1, 3 * LONGEST_LINE))
def test_blocks_have_the_same_lines_and_no_line_less(text, size):
    lines, blocks, ends = LineBuffer(), LineBuffer(), 0
    for start in range(0, len(text), size):
        piece = text[start : start + size]
        block = blocks.block(piece)
        assert block == b"" or block.endswith(b"\n")
        # An over-long line that came in pieces leaves an empty one.
        kept = [line for line in expected(block) if line]
        assert kept == [line for line in lines.feed(piece) if line]
        assert blocks.end == lines.end
        ends += block.count(b"\n")
    assert ends == text.count(b"\n")


@given(texts, st.integers(1, 3 * LONGEST_LINE))
def test_a_file_is_read_line_by_line_and_over_long_ones_stay_so(text, size):
    class Pieces(io.BytesIO):
        def read(self, most):
            return super().read(min(most, size))

    lines = b"".join(read_blocks(Pieces(text))).split(b"\n")
    whole = text.split(b"\n")
    assert len(lines) == len(whole)
    for read, written in zip(lines, whole, strict=True):
        too_long = len(read) > LONGEST_LINE and len(written) > LONGEST_LINE
        assert read == written or too_long
