"""Fashion-MNIST: 28×28 grey pictures of ten kinds of clothes.

Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", arXiv:1708.07747; MIT licence, see ``fashion_mnist.LICENSE.txt`` beside this file.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from minigrad.data.dataset import TensorDataset
from minigrad.data.files import existing, find_folder, read_idx

SUBSET = Path(__file__).with_name("fashion_mnist.npz")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")

# Of the uncompressed files: the compressed ones differ between distributors.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


class FashionMNIST(TensorDataset):
    """Pictures of clothes with their class, as a data set of samples ``(image, label)``.

    Without options this is the subset that comes with minigrad: 10,000 training and 2,000 test pictures,
    namely the first 1,000 and the first 200 of each class, in their original order. It is the same on every
    machine; the full set of 60,000 and 10,000 is read only when it is asked for.

    Parameters
    ----------
    train : bool, default True
        The training pictures; else the test pictures.
    full : bool, default False
        Read the full set. It is looked for in ``$MINIGRAD_DATA``, in its folder ``fashion-mnist``, and then
        where Debian's package dataset-fashion-mnist puts it. Nothing is downloaded: see `minigrad.data.download`.
    folder : str or path, optional
        Read the full set from here and nowhere else; implies `full`. The folder holds the four original IDX
        files, compressed (``.gz``) or not.

    Attributes
    ----------
    images : ndarray of float32, shape (n, 1, 28, 28)
        Brightness from 0 (background) to 1.
    labels : ndarray of int64, shape (n,)
        Positions in `classes`.
    source : str
        Which set was read, and from where.
    classes : tuple of str
        Names of the ten classes.

    Raises
    ------
    FileNotFoundError
        If the full set is asked for and not found; the text lists the places.
    StateError
        If a file's content is not the original.

    Examples
    --------
    >>> data = FashionMNIST(train=False)
    >>> len(data), data.images.shape, data.classes[data.labels[0]]
    (2000, (2000, 1, 28, 28), 'Ankle boot')
    """

    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )

    def __init__(
        self, train: bool = True, *, full: bool = False, folder: str | os.PathLike[str] | None = None
    ) -> None:
        part = "train" if train else "t10k"
        if full or folder is not None:
            directory = find_folder("FashionMNIST", "fashion-mnist", folder,
                                    lambda place: all(existing(place, name) for name in SHA256),
                                    f"{', '.join(SHA256)} (or .gz)", [DEBIAN],
                                    "install Debian's package dataset-fashion-mnist, or give no option to use "
                                    "minigrad's own subset")
            pixels, classes = read_full(directory, part)
            self.source = f"full Fashion-MNIST, {len(pixels)} pictures from {directory}"
        else:
            with np.load(SUBSET, allow_pickle=False) as arrays:
                pixels, classes = arrays[f"{part}_images"], arrays[f"{part}_labels"]
            self.source = f"subset of Fashion-MNIST that comes with minigrad, {len(pixels)} pictures"
        self.images = np.divide(pixels, 255, dtype=np.float32)[:, np.newaxis]
        self.labels = classes.astype(np.int64)
        super().__init__(self.images, self.labels)


def read_full(folder: Path, part: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Read one part of the full set from its two IDX files.

    Parameters
    ----------
    folder : path
        The folder that holds the files.
    part : {"train", "t10k"}
        Training or test pictures.

    Returns
    -------
    images : ndarray of uint8, shape (n, 28, 28)
        Brightness from 0 to 255.
    labels : ndarray of uint8, shape (n,)
        Classes from 0 to 9.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    StateError
        If a file's content is not the original, by its SHA-256.
    """
    images, labels = (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
    return (read_idx("FashionMNIST", folder, images, SHA256[images]),
            read_idx("FashionMNIST", folder, labels, SHA256[labels]))
