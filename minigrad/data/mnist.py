"""MNIST: 28×28 grey pictures of handwritten digits (LeCun, Cortes & Burges). Not part of minigrad: bring the files."""

from __future__ import annotations

import os

import numpy as np

from minigrad.data.dataset import TensorDataset
from minigrad.data.files import existing, find_folder, read_idx

# Of the uncompressed files: the compressed ones differ between distributors.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class MNIST(TensorDataset):
    """Pictures of digits with their class, as a data set of samples ``(image, label)``.

    Parameters
    ----------
    train : bool, default True
        The 60,000 training pictures; else the 10,000 test pictures.
    folder : str or path, optional
        Where the four IDX files are, compressed (``.gz``) or not; by default ``$MINIGRAD_DATA``, in its folder
        ``mnist`` or itself. Nothing is downloaded: see `minigrad.data.download`.

    Attributes
    ----------
    images : ndarray of float32, shape (n, 1, 28, 28)
        Brightness from 0 (background) to 1.
    labels : ndarray of int64, shape (n,)
        The digits.
    source : str
        What was read, and from where.
    classes : tuple of str

    Raises
    ------
    FileNotFoundError
        If the files are not found; the text lists the places.
    StateError
        If a file's content is not the original.
    """

    classes = tuple("0123456789")

    def __init__(self, train: bool = True, *, folder: str | os.PathLike[str] | None = None) -> None:
        place = find_folder("MNIST", "mnist", folder, lambda place: all(existing(place, name) for name in SHA256),
                            f"{', '.join(SHA256)} (or .gz)")
        part = "train" if train else "t10k"
        pixels, classes = (read_idx("MNIST", place, name, SHA256[name])
                           for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"))
        self.images = np.divide(pixels, 255, dtype=np.float32)[:, np.newaxis]
        self.labels = classes.astype(np.int64)
        self.source = f"full MNIST, {len(pixels)} pictures from {place}"
        super().__init__(self.images, self.labels)
