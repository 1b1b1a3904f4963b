"""CIFAR-10: 32×32 colour pictures of ten kinds of things (Krizhevsky, 2009). Not part of minigrad: bring the file."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from minigrad.data.dataset import Array, Dataset, Sample, _positions
from minigrad.data.files import find_folder, sha256_of
from minigrad.data.pickled import read_pickle
from minigrad.errors import StateError

ARCHIVE = "cifar-10-python.tar.gz"
ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
UNPACKED = "cifar-10-batches-py"
TRAIN, TEST = tuple(f"data_batch_{n}" for n in range(1, 6)), ("test_batch",)
# Of the unpacked files, as their authors' toolkits publish them.
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}


class CIFAR10(Dataset):
    """Colour pictures with their class, as a data set of samples ``(image, label)``.

    Parameters
    ----------
    train : bool, default True
        The 50,000 training pictures; else the 10,000 test pictures.
    folder : str or path, optional
        Where ``cifar-10-python.tar.gz`` is, or its content, the folder ``cifar-10-batches-py``; by default
        ``$MINIGRAD_DATA``, in its folder ``cifar10`` or itself. Nothing is downloaded or unpacked: see
        `minigrad.data.download`.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (n, 3, 32, 32)
        Brightness from 0 to 255, red, green and blue. Samples are float32, from 0 to 1.
    labels : ndarray of int64, shape (n,)
        Positions in `classes`.
    source : str
        What was read, and from where.
    classes : tuple of str

    Raises
    ------
    FileNotFoundError
        If the files are not found; the text lists the places.
    StateError
        If a file's content is not the original. The files are pickles, which are read without executing anything.
    """

    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def __init__(self, train: bool = True, *, folder: str | os.PathLike[str] | None = None) -> None:
        place = find_folder("CIFAR10", "cifar10", folder, _complete, f"{ARCHIVE}, or its content in {UNPACKED}/")
        names = TRAIN if train else TEST
        archive = place / ARCHIVE
        batches = _from_archive(archive, names) if archive.is_file() else _from_folder(place / UNPACKED, names)
        parts = [_batch(data, name) for name, data in zip(names, batches)]
        self.pixels = np.concatenate([pixels for pixels, _ in parts])
        self.labels = np.concatenate([labels for _, labels in parts])
        self.source = f"CIFAR-10, {len(self.pixels)} pictures from {place}"

    @staticmethod
    def found(folder: str | os.PathLike[str] | None = None) -> bool:
        """Whether the files are there, as far as their names tell."""
        try:
            find_folder("CIFAR10", "cifar10", folder, _complete, ARCHIVE)
        except FileNotFoundError:
            return False
        return True

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        return np.divide(self.pixels[index], 255, dtype=np.float32), np.asarray(self.labels[index])

    def batch(self, indices: Sequence[int] | Array) -> Sample:
        """Fetch the samples at `indices`: float32 of shape (n, 3, 32, 32), and int64 of shape (n,)."""
        rows = _positions(indices, "CIFAR10.batch")
        return np.divide(self.pixels[rows], 255, dtype=np.float32), self.labels[rows]


def _complete(place: Path) -> bool:
    return (place / ARCHIVE).is_file() or all((place / UNPACKED / name).is_file() for name in MD5)


def _from_archive(archive: Path, names: Sequence[str]) -> list[bytes]:
    """Members of the archive, read where they are."""
    found = sha256_of(archive)
    if found != ARCHIVE_SHA256:
        raise StateError(f"CIFAR10: {archive}", f"SHA-256 {found}", f"the original, {ARCHIVE_SHA256}")
    with tarfile.open(archive, "r:gz") as members:
        found_members = [members.extractfile(f"{UNPACKED}/{name}") for name in names]
        return [member.read() for member in found_members if member is not None]


def _from_folder(folder: Path, names: Sequence[str]) -> list[bytes]:
    """Files of the unpacked archive."""
    contents = []
    for name in names:
        data = (folder / name).read_bytes()
        found = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if found != MD5[name]:
            raise StateError(f"CIFAR10: {folder / name}", f"MD5 {found}", f"the original, {MD5[name]}")
        contents.append(data)
    return contents


def _batch(data: bytes, name: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Pixels and labels of one file."""
    held = read_pickle(data, name)
    pixels, labels = (held.get("data"), held.get("labels")) if isinstance(held, dict) else (None, None)
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != 3 * 32 * 32 \
            or not isinstance(labels, list) or len(labels) != len(pixels):
        raise StateError(f"CIFAR10: {name}", got="something else", wanted="'data' of shape (n, 3072) and n 'labels'")
    return pixels.reshape(-1, 3, 32, 32), np.asarray(labels, np.int64)
