"""What the recorder says of itself."""

from popbsmtp_wrap.daemon.metrics import Counts


def test_the_rate_is_that_of_the_last_minute():
    counts = Counts(started=0)
    for second in range(100, 220):
        for _ in range(3):
            counts.login("wrapper", second + 0.5)
    assert counts.logins_per_s(220.1) == 3.0
    assert counts.logins_per_s(250.1) == 1.5
    assert counts.logins_per_s(400.0) == 0.0
    assert counts.logins["wrapper"] == 360


def test_the_largest_batch_is_kept():
    counts = Counts()
    for size in (3, 17, 5):
        counts.batch(size)
    assert (counts.batches, counts.largest_batch) == (3, 17)
