"""Where the files of data sets are looked for, and IDX, the format of two of them. Files are read, never written."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from minigrad.errors import StateError

__all__ = ["content_of", "existing", "find_folder", "read_idx", "sha256_of"]

VARIABLE = "MINIGRAD_DATA"
_MOST = 1 << 30  # bytes of one file, unpacked: a compressed file may say it is much more


def find_folder(who: str, name: str, folder: str | os.PathLike[str] | None, complete: Callable[[Path], bool],
                wanted: str, also: Iterable[Path] = (), hint: str = "") -> Path:
    """The first folder that holds a data set: the one that is given, else those of `$MINIGRAD_DATA`, else `also`.

    Parameters
    ----------
    who : str
        The class that asks, for the error.
    name : str
        The data set's folder within ``$MINIGRAD_DATA``; the files may also lie there directly.
    folder : path, optional
        Looked into, with its subfolder `name`, and nowhere else.
    complete : callable
        Whether a folder holds the data set.
    wanted : str
        The files, for the error.
    also : iterable of path
        Further places.
    hint : str
        A further way out, for the error.

    Raises
    ------
    FileNotFoundError
        No folder does; the text lists the places and the ways to get the files.
    """
    own = folder if folder is not None else os.environ.get(VARIABLE)
    places = [] if not own else [Path(own) / name, Path(own)]
    places += also if folder is None else []
    for place in places:
        if complete(place):
            return place
    raise FileNotFoundError(
        f"{who}: not found in {', '.join(map(str, places)) or 'any place, as none is known'}; wanted {wanted}. "
        f"Name the folder that holds the files by folder= or ${VARIABLE} (trainers: --data), or download them into one "
        f"with 'minigrad data {name} FOLDER'" + (f", or {hint}" if hint else "")
    )


def existing(folder: Path, name: str) -> Path | None:
    """The file, or the compressed one."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def content_of(path: Path, packed: bool | None = None) -> bytes:
    """The content of a file, unpacked if it is `packed`; by default its name tells: ``.gz``.

    Raises
    ------
    StateError
        The file is damaged, or larger than any file of a data set.
    """
    try:
        if not (path.suffix == ".gz" if packed is None else packed):
            return path.read_bytes()
        with gzip.open(path) as file:
            content = file.read(_MOST + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise StateError(f"{path.name}", got=f"damaged compressed data ({error})", wanted="a complete file") from error
    if len(content) > _MOST:
        raise StateError(f"{path.name}", got=f"more than {_MOST:,} bytes", wanted="a file of a data set")
    return content


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file as it is, block by block."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_idx(who: str, folder: Path, name: str, sha256: str) -> npt.NDArray[np.uint8]:
    """Read an IDX file of bytes, compressed or not.

    Raises
    ------
    FileNotFoundError
        The file is missing.
    StateError
        Its content is not the original, by the SHA-256 of what is unpacked: distributors pack differently.
    """
    path = existing(folder, name)
    if path is None:
        raise FileNotFoundError(f"{who}: found neither {name} nor {name}.gz in {folder}")
    content = content_of(path)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise StateError(f"{who}: {path}", f"SHA-256 {found}", f"the original content, {sha256}")
    # IDX: two zero bytes, the element type (8: unsigned byte), the number of axes, and the length of each
    # axis as a big-endian 32-bit number.
    axes = content[3]
    shape = struct.unpack_from(f">{axes}I", content, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
