"""A file of lines that is only ever appended to, by one process at a time."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

from minigrad.errors import StateError
from minigrad.io.files import explained

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["Journal"]


class Journal:
    """Lines in UTF-8; each is in the file as soon as `append` returns, or not at all.

    Parameters
    ----------
    path : pathlib.Path
        Made if it is missing.

    Raises
    ------
    OSError
        The file cannot be opened.
    StateError
        Another process has it open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Unbuffered: what cannot be written fails here and now, not when the file is closed.
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise explained(error, f"cannot write {str(path)!r}") from error
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._file.close()
                raise StateError(f"{path}", got="a file that another process is writing",
                                 wanted="one process for each run") from error

    def append(self, line: str) -> None:
        """Write a line.

        Raises
        ------
        OSError
            The disk is full, for example; nothing of the line stays.
        """
        data = (line + "\n").encode()
        before = os.fstat(self._file.fileno()).st_size
        done = 0
        try:
            while done < len(data):
                done += self._file.write(data[done:])
        except OSError as error:
            os.ftruncate(self._file.fileno(), before)
            raise explained(error, f"cannot write {str(self.path)!r}", ["wanted room for one more line"]) from error

    def sync(self) -> None:
        """Bring all lines to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        self._file.close()
