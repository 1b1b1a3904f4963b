"""numba's cache on disk, used by several processes at once, and good for the files of this folder together.

numba gives the compiled versions of a function numbered files, and an index says which is which. It does not lock them:
two processes that compile two versions at the same time take the same number, and from then on one of them stands for
both, so that calls of one kind run the code of another. Here reading and writing an entry take turns, by a lock on a
file beside the index.

What is cached holds the functions of other files that it calls, and numba looks at a function's own file alone to see
whether it has changed. Here the files of this folder stand for each other.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # not on Windows, where there is no such lock
    fcntl = None

__all__ = ["lock_entries", "stamp_together"]


def lock_entries(cls: Any) -> None:
    """Let the methods `save` and `load` of numba's `IndexDataCacheFile` take turns across processes."""
    for name in ("save", "load"):
        setattr(cls, name, _taking_turns(getattr(cls, name)))


def _taking_turns(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def locked(self: Any, *args: Any) -> Any:
        with _lock(f"{self._index_path}.lock"):
            return method(self, *args)

    return locked


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
    """Hold a lock on a file; without one where the folder is missing (then there is nothing to read) or read-only."""
    if fcntl is None:
        yield
        return
    try:
        file = open(path, "a")  # noqa: SIM115, PTH123 - closed below; a path as numba has it
    except OSError:
        yield
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        file.close()  # which unlocks


def stamp_together(cls: Any, folder: Path) -> None:
    """Let the method `get_source_stamp` of numba's `cls` say, for a file of a folder, that of all files there."""
    method, contents = cls.get_source_stamp, _contents(folder)

    @functools.wraps(method)
    def stamp(self: Any) -> Any:
        own = method(self)
        return (own, contents) if Path(self._py_file).parent == folder else own

    cls.get_source_stamp = stamp


def _contents(folder: Path) -> str:
    """A number that changes with any of the Python files of a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()
