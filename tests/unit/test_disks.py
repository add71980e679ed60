"""Which file systems may hang whoever writes to them."""

import pytest

from popbsmtp_wrap.store.disks import is_on_local_disk

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
28 27 0:30 / /net rw,relatime shared:1 master:2 - nfs4 files.example.org:/ rw,vers=4.2
29 28 0:31 / /net/here rw - tmpfs tmpfs rw
30 27 0:32 / /with\\040blank rw,relatime - fuse.sshfs x rw
31 27 0:33 / /twice rw - nfs files.example.org:/ rw
32 31 0:34 / /twice rw - xfs /dev/vdb rw
33 27 0:35 / /again rw - xfs /dev/vdb rw
34 33 0:36 / /again rw - cifs //files/x rw
a line of another kind
"""


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("/var/lib/popbsmtp/popbsmtp.db", True),
        ("/net/popbsmtp.db", False),
        ("/network/popbsmtp.db", True),
        ("/net/here/popbsmtp.db", True),
        ("/with blank/popbsmtp.db", False),
        ("/twice/popbsmtp.db", True),
        ("/again/popbsmtp.db", False),
        ("/proc/popbsmtp.db", False),
    ],
)
def test_the_mount_that_a_file_is_on_decides(tmp_path, path, local):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert is_on_local_disk(path, str(mounts)) is local


def test_what_is_not_known_is_not_local(tmp_path):
    assert not is_on_local_disk("/x", str(tmp_path / "nothing"))
    (tmp_path / "empty").touch()
    assert not is_on_local_disk("/x", str(tmp_path / "empty"))


def test_a_link_is_where_it_points_to(tmp_path):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"{MOUNTS}35 27 0:37 / {tmp_path}/far rw - nfs4 x rw\n")
    (tmp_path / "near").symlink_to(tmp_path / "far")
    assert not is_on_local_disk(str(tmp_path / "near" / "popbsmtp.db"), str(mounts))
    assert is_on_local_disk(str(tmp_path / "popbsmtp.db"), str(mounts))


def test_this_machine_has_a_local_disk():
    assert is_on_local_disk("/dev/shm/popbsmtp.db")
