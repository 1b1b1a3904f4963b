"""Random and fixed changes of pictures: normalize, crop, flip, cut out. Which change a sample meets is a matter of
(seed, epoch, sample) alone, so neither the number of threads nor the way a run was cut into pieces plays a part.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, SupportsIndex

import numpy as np
import numpy.typing as npt

from minigrad.data.dataset import Array, Dataset, Sample
from minigrad.errors import ArgumentError, ShapeError

__all__ = ["Cutout", "Normalize", "RandomCrop", "RandomFlip", "Transform", "Transformed"]

Draws = npt.NDArray[np.float64]


class Transform(ABC):
    """A change of a batch of pictures. It is a pure function: chance comes in as numbers.

    A subclass says in `draws` how many random numbers it needs for each picture, and defines `__call__`.
    """

    draws: ClassVar[int] = 0

    @abstractmethod
    def __call__(self, images: Array, draws: Draws) -> Array:
        """Change pictures.

        Parameters
        ----------
        images : ndarray, shape (n, channels, height, width)
            Not to be written to.
        draws : ndarray of float64, shape (n, self.draws)
            Even in [0, 1).

        Returns
        -------
        ndarray, of the same shape and dtype
        """


class Normalize(Transform):
    """(x − mean) / std, for each channel.

    Parameters
    ----------
    mean, std : float or sequence of float
        One number, or one for each channel; std above 0.

    Raises
    ------
    ArgumentError
        A std is not above 0.

    Examples
    --------
    >>> Normalize(0.5, 0.25)(np.ones((1, 1, 1, 1), np.float32), np.zeros((1, 0))).item()
    2.0
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = (np.asarray(each, np.float64).reshape(-1, 1, 1) for each in (mean, std))
        if not (self.std > 0).all():
            raise ArgumentError("Normalize", got=f"std={std}", wanted="numbers above 0")

    def __call__(self, images: Array, draws: Draws) -> Array:
        _check(self, images)
        if not {len(self.mean), len(self.std)} <= {1, images.shape[1]}:
            raise ShapeError("Normalize", got=f"{images.shape[1]} channels",
                             wanted=f"as many as means and stds, {max(len(self.mean), len(self.std))}")
        normalized: Array = (images - self.mean.astype(images.dtype)) / self.std.astype(images.dtype)
        return normalized


class RandomCrop(Transform):
    """Surround each picture by `padding` zeros and cut its size out again, at random: a shift.

    Parameters
    ----------
    padding : int
        At least 1.

    Raises
    ------
    ArgumentError
        The padding is below 1.
    """

    draws = 2

    def __init__(self, padding: int = 4) -> None:
        if padding < 1:
            raise ArgumentError("RandomCrop", got=f"padding={padding}", wanted="at least 1")
        self.padding = padding

    def __call__(self, images: Array, draws: Draws) -> Array:
        _check(self, images)
        p, (height, width) = self.padding, images.shape[2:]
        padded = np.pad(images, ((0, 0), (0, 0), (p, p), (p, p)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
        top, left = (draws * (2 * p + 1)).astype(np.intp).T
        return np.ascontiguousarray(windows[np.arange(len(images)), :, top, left])


class RandomFlip(Transform):
    """Mirror each picture left to right, with probability one half. Not for pictures that have a side, as digits do."""

    draws = 1

    def __call__(self, images: Array, draws: Draws) -> Array:
        _check(self, images)
        return np.where(draws.reshape(-1, 1, 1, 1) < 0.5, images[..., ::-1], images)


class Cutout(Transform):
    """Set a square at a random place of each picture to 0 (DeVries & Taylor, arXiv:1708.04552).

    The middle of the square is anywhere in the picture, so the square may be partly outside.

    Parameters
    ----------
    size : int
        Side of the square, at least 1.

    Raises
    ------
    ArgumentError
        The size is below 1.
    """

    draws = 2

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ArgumentError("Cutout", got=f"size={size}", wanted="at least 1")
        self.size = size

    def __call__(self, images: Array, draws: Draws) -> Array:
        _check(self, images)
        inside = []
        for length, draw in zip(images.shape[2:], draws.T):
            start = (draw * length).astype(np.intp)[:, np.newaxis] - self.size // 2
            place = np.arange(length)
            inside.append((place >= start) & (place < start + self.size))
        cut = inside[0][:, np.newaxis, :, np.newaxis] & inside[1][:, np.newaxis, np.newaxis, :]
        return np.where(cut, images.dtype.type(0), images)


def _check(transform: Transform, images: Array) -> None:
    if images.ndim != 4:
        raise ShapeError(type(transform).__name__, got=f"shape {images.shape}", wanted="(n, channels, height, width)")


class Transformed(Dataset):
    """Another data set whose first field, pictures, is changed by transforms, one after the other.

    The random numbers of an epoch are one table with a row for each sample, drawn from (seed, epoch); so a picture's
    change depends on nothing else.

    Parameters
    ----------
    dataset : Dataset
        Its first field has the shape (channels, height, width).
    transforms : sequence of Transform
    seed : int
        From 0.

    Examples
    --------
    >>> from minigrad.data import TensorDataset
    >>> pictures = TensorDataset(np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2))
    >>> flipped = Transformed(pictures, [RandomFlip()], seed=0)
    >>> [flipped.batch_in_epoch([0], epoch)[0].ravel().tolist() for epoch in (0, 1, 0)]
    [[1.0, 0.0, 3.0, 2.0], [0.0, 1.0, 2.0, 3.0], [1.0, 0.0, 3.0, 2.0]]
    """

    def __init__(self, dataset: Dataset, transforms: Sequence[Transform], seed: int = 0) -> None:
        if seed < 0:
            raise ArgumentError("Transformed", got=f"seed={seed}", wanted="0 or more")
        self.dataset, self.transforms, self.seed = dataset, tuple(transforms), seed
        self._table: tuple[int, Draws] = (-1, np.zeros((0, 0)))
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: SupportsIndex) -> tuple[Any, ...]:
        """One sample, as in epoch 0."""
        return tuple(field[0] for field in self.batch([range(len(self))[index]]))

    def batch(self, indices: Sequence[int] | Array) -> Sample:
        """Fetch samples as they are in epoch 0."""
        return self.batch_in_epoch(indices, 0)

    def batch_in_epoch(self, indices: Sequence[int] | Array, epoch: int) -> Sample:
        """Fetch samples as they are in one epoch."""
        images, *others = self.dataset.batch_in_epoch(indices, epoch)
        draws = self._draws(epoch)[np.asarray(indices)]
        used = 0
        for transform in self.transforms:
            images = transform(images, draws[:, used : used + transform.draws])
            used += transform.draws
        return (images, *others)

    def _draws(self, epoch: int) -> Draws:
        """The random numbers of an epoch; the last table is kept, as all batches of an epoch need it."""
        with self._lock:
            if self._table[0] != epoch:
                columns = sum(transform.draws for transform in self.transforms)
                # The third number keeps these apart from the loader's orders, which may have the same seed.
                draws = np.random.default_rng([self.seed, epoch, 1]).random((len(self.dataset), columns))
                self._table = (epoch, draws)
            return self._table[1]
