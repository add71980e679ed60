"""Which logins of a chunk are written, in which order, and which stay in the spool."""

from popbsmtp_wrap.login import Login
from popbsmtp_wrap.recorder.chunk_attempts import ChunkAttempts
from popbsmtp_wrap.spool.reader import Chunk
from popbsmtp_wrap.spool.timestamp import Stamp
from popbsmtp_wrap.store.batch import NotWritten, Outcome


def chunk(*logins):
    """A chunk of (address, user, age in seconds)."""
    found = Chunk()
    for number, (address, user, age_s) in enumerate(logins):
        found.logins.append(Login(address, user, "imap", age_s))
        found.stored.append((Login(address, user, "imap"), Stamp("boot", number, number)))
    return found


def users(logins):
    return [login.user for login, _ in logins]


def not_written(batch, *names):
    return [NotWritten(seen, "why") for seen in batch if seen.login.user in names]


def test_the_latest_login_of_each_address_comes_first_and_the_others_not_at_all():
    attempts = ChunkAttempts(
        chunk(("192.0.2.1", "old", 9), ("192.0.2.2", "other", 5), ("192.0.2.1", "new", 3)), 100.0
    )
    assert sorted(users(attempts.next_batch())) == ["new", "other"]
    attempts.learn(Outcome())
    assert attempts.next_batch() == []
    assert (attempts.written, attempts.refused, attempts.put_back) == (3, 0, [])


def test_of_two_logins_of_the_same_second_the_one_behind_is_the_latest():
    attempts = ChunkAttempts(chunk(("192.0.2.1", "first", 3), ("192.0.2.1", "second", 3)), 100.0)
    assert users(attempts.next_batch()) == ["second"]


def test_a_refused_login_gives_way_to_the_one_before_it():
    attempts = ChunkAttempts(
        chunk(("192.0.2.1", "good", 9), ("192.0.2.1", "bad", 5), ("192.0.2.1", "worse", 3)), 100.0
    )
    for name in ("worse", "bad"):
        batch = attempts.next_batch()
        assert users(batch) == [name]
        attempts.learn(Outcome(refused=not_written(batch, name)))
    assert users(attempts.next_batch()) == ["good"]
    attempts.learn(Outcome())
    assert attempts.next_batch() == []
    assert (attempts.written, attempts.refused) == (1, 2)


def test_all_logins_of_a_locked_row_stay_as_they_are_stored():
    found = chunk(("192.0.2.1", "good", 9), ("192.0.2.2", "free", 1), ("192.0.2.1", "bad", 3))
    attempts = ChunkAttempts(found, 100.0)
    batch = attempts.next_batch()
    attempts.learn(Outcome(locked=not_written(batch, "bad")))
    assert attempts.next_batch() == []
    # The row may be free, and "bad" refused, next time.
    assert attempts.put_back == [found.stored[0], found.stored[2]]
    assert attempts.written == 1


def test_what_is_held_is_not_tried():
    found = chunk(("192.0.2.1", "held", 9), ("192.0.2.2", "free", 1))
    attempts = ChunkAttempts(found, 100.0, {"192.0.2.1"}.__contains__)
    assert users(attempts.next_batch()) == ["free"]
    attempts.learn(Outcome())
    assert attempts.put_back == [found.stored[0]]
    assert attempts.written == 1
