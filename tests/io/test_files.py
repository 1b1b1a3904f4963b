"""Files that are the old ones or complete; full disks and folders that cannot be written."""

import subprocess

import pytest
from limits import files_end_at

from minigrad.io import replace_file
from minigrad.io.files import publish, remove_tree


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.txt"
    replace_file(path, b"old")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_names_the_file_and_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cannot write '.*nowhere.*a\.txt'.*choose another directory"):
        replace_file(tmp_path / "nowhere" / "a.txt", b"")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_published_over_another(tmp_path):
    for name in ("part", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    publish(tmp_path / "part", tmp_path / "target")
    assert [p.name for p in tmp_path.iterdir()] == ["target"]
    assert [p.name for p in (tmp_path / "target").iterdir()] == ["part"]
    remove_tree(tmp_path / "target")
    remove_tree(tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KiB, where this machine lets one be made."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True,
                      check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_keeps_the_old_file(small_disk):
    replace_file(small_disk / "a", b"old" * 1000)
    with pytest.raises(OSError, match=r"cannot write .*: No space left"):
        replace_file(small_disk / "a", b"x" * 100_000)
    assert (small_disk / "a").read_bytes() == b"old" * 1000
    assert [p.name for p in small_disk.iterdir()] == ["a"]


def test_a_file_that_cannot_grow_keeps_the_old_one(tmp_path):
    replace_file(tmp_path / "a", b"old")
    with pytest.raises(OSError, match=r"cannot write .*a': File too large"), files_end_at(20_000):
        replace_file(tmp_path / "a", b"x" * 20_001)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
