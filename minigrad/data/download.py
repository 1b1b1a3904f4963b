"""Downloading data sets, only where somebody asks for it: resumable, and nothing is kept whose checksum is wrong."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from minigrad.data import cifar10, fashion_mnist, mnist
from minigrad.data.files import content_of, sha256_of
from minigrad.errors import ArgumentError, StateError

__all__ = ["SETS", "RemoteFile", "download", "fetch"]

_BLOCK = 1 << 16
_SECONDS = 30  # without a byte
_TRIES = 4


class RemoteFile(NamedTuple):
    """A file to download.

    Attributes
    ----------
    name : str
        What it is called here.
    url : str
    sha256 : str
        Of its content, unpacked if `unpacked`.
    most : int
        Bytes it may have as downloaded.
    unpacked : bool
        The checksum is that of the unpacked content, as compressed files differ between distributors.
    """

    name: str
    url: str
    sha256: str
    most: int
    unpacked: bool = False


def _idx(base: str, hashes: dict[str, str]) -> list[RemoteFile]:
    return [RemoteFile(f"{name}.gz", f"{base}/{name}.gz", sha256, 40 << 20, unpacked=True)
            for name, sha256 in hashes.items()]


SETS = {
    "fashion-mnist": _idx("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com", fashion_mnist.SHA256),
    "mnist": _idx("https://ossci-datasets.s3.amazonaws.com/mnist", mnist.SHA256),
    "cifar10": [RemoteFile(cifar10.ARCHIVE, f"https://www.cs.toronto.edu/~kriz/{cifar10.ARCHIVE}",
                           cifar10.ARCHIVE_SHA256, 180 << 20)],
}


def download(name: str, folder: str | os.PathLike[str], say: Callable[[str], None] = lambda line: None) -> Path:
    """Download a data set, unless it is there already.

    Parameters
    ----------
    name : {"fashion-mnist", "mnist", "cifar10"}
    folder : str or path
        The files go into its folder `name`, which is made if it is missing.
    say : callable
        Told in a line what happens with each file.

    Returns
    -------
    pathlib.Path
        The folder with the files: what the data set's ``folder=`` takes.

    Raises
    ------
    ArgumentError
        There is no data set of this name.
    OSError
        The server cannot be reached or breaks off, or the folder cannot be written. What has arrived is kept: calling
        again goes on there.
    StateError
        A file has another content than it should; it is deleted.
    """
    if name not in SETS:
        raise ArgumentError("download", got=repr(name), wanted=" or ".join(map(repr, SETS)))
    target = Path(folder) / name
    target.mkdir(parents=True, exist_ok=True)
    for file in SETS[name]:
        fetch(file, target, say)
    return target


def fetch(file: RemoteFile, folder: Path, say: Callable[[str], None] = lambda line: None) -> Path:
    """Download one file into a folder, going on where an earlier attempt ended.

    Raises
    ------
    OSError, StateError
        As `download`.
    """
    if not file.url.startswith(("http://", "https://")):
        raise ArgumentError("fetch", got=f"the address {file.url!r:.80}", wanted="http or https")
    target, part = folder / file.name, folder / f"{file.name}.part"
    if target.is_file() and _digest(target, file) == file.sha256:
        say(f"{target}: there already")
        return target
    for attempt in range(_TRIES):
        try:
            _transfer(file, part)
            break
        except urllib.error.HTTPError as error:
            raise OSError(f"download of {file.url}: the server says {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            if attempt + 1 == _TRIES:
                have = part.stat().st_size if part.exists() else 0
                raise OSError(f"download of {file.url}: {error}; {have:,} bytes have arrived and are kept, "
                              "do the same again to go on there") from error
    found = _digest(part, file)
    if found != file.sha256:
        part.unlink()
        raise StateError(f"download of {file.url}", got=f"SHA-256 {found}", wanted=file.sha256,
                         hint="What arrived was deleted")
    part.replace(target)
    say(f"{target}: {target.stat().st_size:,} bytes from {file.url}")
    return target


def _digest(path: Path, file: RemoteFile) -> str:
    if not file.unpacked:
        return sha256_of(path)
    try:
        return hashlib.sha256(content_of(path, packed=True)).hexdigest()
    except StateError as error:
        return f"of nothing: {error}"


def _transfer(file: RemoteFile, part: Path) -> None:
    """Append to the partial file what it lacks; it is complete when this returns."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "minigrad", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        answer = urllib.request.urlopen(urllib.request.Request(file.url, headers=headers), timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing lies beyond what is there, so it is complete, or too much
            return
        raise
    with answer:
        going_on = have > 0 and answer.status == 206 \
            and str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")
        length = answer.headers.get("Content-Length")
        have = have if going_on else 0
        total = None if length is None else have + int(length)
        with part.open("ab" if going_on else "wb") as out:
            while block := answer.read(_BLOCK):
                have += len(block)
                if have > file.most:
                    out.close()
                    part.unlink()
                    raise StateError(f"download of {file.url}", got=f"more than {file.most:,} bytes", wanted="fewer",
                                     hint="What arrived was deleted")
                out.write(block)
    if total is not None and have < total:
        raise ConnectionError(f"the connection ended after {have:,} of {total:,} bytes")
