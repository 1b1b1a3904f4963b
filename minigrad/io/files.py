"""Files that are either the old ones or complete, whatever happens meanwhile; and errors that say what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

__all__ = ["explained", "publish", "remove_tree", "replace_file", "sync_directory", "unfinished",
           "write_synced"]


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that it is either the old one or complete, also after a power failure.

    The content goes to a temporary file beside it, which is brought to the disk (fsync) and then renamed; the rename is
    brought to the disk too.

    Parameters
    ----------
    path : str or path-like
        The file; replaced if it exists.
    content : bytes

    Raises
    ------
    OSError
        The file cannot be written; the message names it. One that was there before is untouched.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        write_synced(part, content)
        part.replace(target)
        sync_directory(target.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise explained(error, f"cannot write {str(target)!r}") from error


def unfinished(path: Path) -> bool:
    """Whether a file is what `replace_file` leaves if the process is killed meanwhile."""
    return path.name.startswith(".") and path.name.endswith(".part")


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file and bring it to the disk.

    Raises
    ------
    OSError
        The disk is full, for example. What was written so far stays.
    """
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def publish(folder: Path, target: Path) -> None:
    """Give a finished folder its final name; a folder that has the name already is replaced.

    Raises
    ------
    OSError
        The rename failed.
    """
    sync_directory(folder)
    if target.exists():
        # Folders can't be exchanged in one step everywhere: between the two renames neither is there, so only a
        # folder that can be spared may be replaced.
        old = target.with_name(f".old-{target.name}-{os.getpid()}")
        remove_tree(old)
        target.replace(old)
        folder.replace(target)
        sync_directory(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    else:
        folder.replace(target)
        sync_directory(target.parent)


def remove_tree(folder: Path) -> None:
    """Remove a folder if it is there. It gets a hidden name first: one that is half removed is never seen."""
    hidden = folder
    if folder.exists() and not folder.name.startswith("."):
        hidden = folder.with_name(f".old-{folder.name}-{os.getpid()}")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.replace(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def sync_directory(folder: Path) -> None:
    """Bring the names in a folder to the disk; where folders can't be opened (Windows), renames are all there is."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def explained(error: OSError, what: str, hints: Iterable[str] = ()) -> OSError:
    """An error of the same class that says what was attempted and what to do."""
    reason = error.strerror or str(error)
    advice = "; ".join(hints) or "wanted a place that can be written, choose another directory"
    new = type(error)(f"{what}: {reason}; {advice}")
    new.errno = error.errno
    return new
