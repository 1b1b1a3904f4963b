"""Data sets: numbered samples, which are tuples of NumPy arrays.

Samples and batches are NumPy arrays and not Tensors: no derivative flows into a data set, and a plain array
can be cut, transformed and inspected without a graph. `minigrad.data.DataLoader` makes the Tensors, batch by
batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.tensor import Tensor

Array = npt.NDArray[Any]
Sample = tuple[Array, ...]


def _as_array(value: npt.ArrayLike | Tensor) -> Array:
    """Convert as a Tensor would: arrays are shared, Python numbers and lists become float32 or int64."""
    return (value if isinstance(value, Tensor) else Tensor(value)).numpy()


def _positions(indices: Sequence[int] | Array, where: str) -> npt.NDArray[np.intp]:
    """Refuse all but whole numbers in a row: booleans would be read as a mask, fractions be cut off."""
    positions = np.asarray(indices)
    if positions.ndim != 1 or (positions.size and positions.dtype.kind not in "iu"):
        raise DtypeError(
            where,
            f"indices of dtype {positions.dtype} and shape {positions.shape}",
            "whole numbers of shape (n,)",
        )
    return positions.astype(np.intp, copy=False)


class Dataset(ABC):
    """Numbered samples; the base class of every data set.

    A subclass defines ``__len__`` and ``__getitem__``. A sample is a tuple, by convention of an input and a
    target: arrays or numbers, whose shapes and dtypes are the same for every sample. A subclass that can
    fetch many samples at once should also define `batch`, which is all that `DataLoader` calls.

    Examples
    --------
    >>> class Squares(Dataset):
    ...     def __len__(self):
    ...         return 4
    ...     def __getitem__(self, index):
    ...         return np.float32(index), np.float32(index**2)
    >>> x, y = Squares().batch([1, 3])
    >>> y.tolist()
    [1.0, 9.0]
    """

    @abstractmethod
    def __len__(self) -> int:
        """Count the samples."""

    @abstractmethod
    def __getitem__(self, index: SupportsIndex) -> tuple[Any, ...]:
        """Fetch one sample."""

    def batch(self, indices: Sequence[int] | Array) -> Sample:
        """Fetch the samples at `indices` and stack each of their fields along a new first axis.

        Parameters
        ----------
        indices : sequence or array of int, shape (n,)
            Positions of the samples; at least one.

        Returns
        -------
        tuple of ndarray
            One array per field, of the field's shape and dtype with n in front.

        Raises
        ------
        DtypeError
            If the indices are not whole numbers, or if a sample is not a tuple.
        ArgumentError
            If there are no indices.
        ShapeError
            If samples differ in their number of fields or in the shape of one.
        """
        where = f"{type(self).__name__}.batch"
        positions = _positions(indices, where).tolist()
        if not positions:
            raise ArgumentError(where, "no indices", "at least one")
        samples = [self._sample(position) for position in positions]
        fields = len(samples[0])
        for position, sample in zip(positions, samples, strict=True):
            if len(sample) != fields:
                raise ShapeError(
                    f"{type(self).__name__}[{position}]",
                    f"{len(sample)} fields",
                    f"{fields}, as in sample {positions[0]} of the same batch",
                )
        return tuple(
            self._stack(field, positions, column) for field, column in enumerate(zip(*samples, strict=True))
        )

    def batch_in_epoch(self, indices: Sequence[int] | Array, epoch: int) -> Sample:
        """Fetch samples as they are in one epoch; `DataLoader` calls this.

        The same as `batch`, but for data sets whose samples are changed at random (see
        `minigrad.data.Transformed`): they change anew in every epoch. It may run in several threads at once.

        Parameters
        ----------
        indices : sequence or array of int, shape (n,)
            Positions of the samples.
        epoch : int
            Counted from 0.

        Returns
        -------
        tuple of ndarray
            As from `batch`.
        """
        return self.batch(indices)

    def _sample(self, position: int) -> tuple[Any, ...]:
        sample: object = self[position]  # what a subclass really returns
        if not isinstance(sample, tuple):
            where = f"{type(self).__name__}[{position}]"
            raise DtypeError(where, f"a sample of type {type(sample).__name__}", "a tuple of arrays")
        return sample

    def _stack(self, field: int, positions: list[int], column: Sequence[Any]) -> Array:
        arrays = [_as_array(value) for value in column]
        for position, array in zip(positions, arrays, strict=True):
            if array.shape != arrays[0].shape:
                raise ShapeError(
                    f"{type(self).__name__}[{position}]",
                    f"shape {array.shape} in field {field}",
                    f"{arrays[0].shape}, as in sample {positions[0]} of the same batch",
                )
        return np.stack(arrays)


class TensorDataset(Dataset):
    """Arrays that share their first axis, one sample per position along it.

    Parameters
    ----------
    *arrays : ndarray or Tensor, shape (n, ...)
        The fields, any dtype. NumPy arrays, and Tensors on the CPU, are shared and not copied; Python numbers
        and lists become float32 or int64.

    Attributes
    ----------
    arrays : tuple of ndarray
        The fields.

    Raises
    ------
    ArgumentError
        If there is no array.
    ShapeError
        If an array has no axis, or if their first axes differ in length.

    Examples
    --------
    >>> data = TensorDataset(np.zeros((3, 2), np.float32), np.arange(3))
    >>> len(data), data[2][1].item(), data.batch([0, 2])[1].tolist()
    (3, 2, [0, 2])
    """

    def __init__(self, *arrays: npt.ArrayLike | Tensor) -> None:
        self.arrays: Sample = tuple(_as_array(array) for array in arrays)
        shapes = [array.shape for array in self.arrays]
        if not shapes:
            raise ArgumentError("TensorDataset", "no arrays", "at least one")
        if any(len(shape) == 0 for shape in shapes) or len({shape[0] for shape in shapes}) != 1:
            raise ShapeError("TensorDataset", f"shapes {shapes}", "arrays whose first axes have one length")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: SupportsIndex) -> Sample:
        return tuple(np.asarray(array[index]) for array in self.arrays)

    def batch(self, indices: Sequence[int] | Array) -> Sample:
        """Fetch the samples at `indices`, whole arrays at once.

        Parameters
        ----------
        indices : sequence or array of int, shape (n,)
            Positions of the samples.

        Returns
        -------
        tuple of ndarray
            A copy of the samples, one array of shape (n, ...) per field.

        Raises
        ------
        DtypeError
            If the indices are not whole numbers.
        IndexError
            If an index is outside the data set.
        """
        rows = _positions(indices, "TensorDataset.batch")
        return tuple(array[rows] for array in self.arrays)


class Subset(Dataset):
    """Some samples of another data set, in the order of `indices`.

    Parameters
    ----------
    dataset : Dataset
        The data set to choose from; shared, not copied.
    indices : sequence or array of int, shape (n,)
        Positions in `dataset`, each from 0 to ``len(dataset) - 1``. Repetitions are allowed.

    Attributes
    ----------
    dataset : Dataset
    indices : ndarray of intp, shape (n,)

    Raises
    ------
    DtypeError
        If the indices are not whole numbers.
    IndexError
        If an index is outside `dataset`.
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int] | Array) -> None:
        positions = _positions(indices, "Subset")
        outside = positions[(positions < 0) | (positions >= len(dataset))]
        if outside.size:
            raise IndexError(f"Subset: got index {outside[0]}, wanted 0 to {len(dataset) - 1}")
        self.dataset = dataset
        self.indices = positions

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: SupportsIndex) -> tuple[Any, ...]:
        return self.dataset[int(self.indices[index])]

    def batch(self, indices: Sequence[int] | Array) -> Sample:
        """Fetch the samples at `indices`, counted within the subset, from the data set below."""
        return self.dataset.batch(self.indices[_positions(indices, "Subset.batch")])

    def batch_in_epoch(self, indices: Sequence[int] | Array, epoch: int) -> Sample:
        """As `batch`, as the samples are in one epoch."""
        return self.dataset.batch_in_epoch(self.indices[_positions(indices, "Subset.batch_in_epoch")], epoch)


def random_split(dataset: Dataset, lengths: Sequence[int], seed: int | np.random.Generator) -> list[Subset]:
    """Divide a data set at random into parts that share no sample.

    Parameters
    ----------
    dataset : Dataset
        The data set to divide.
    lengths : sequence of int
        The number of samples of each part; together ``len(dataset)``.
    seed : int or numpy.random.Generator
        Decides the division. The same whole number gives the same division.

    Returns
    -------
    list of Subset

    Raises
    ------
    ArgumentError
        If a length is negative or the lengths don't add up.

    Examples
    --------
    >>> train, held_out = random_split(TensorDataset(np.arange(10)), [8, 2], seed=0)
    >>> len(train), len(held_out)
    (8, 2)
    """
    if any(length < 0 for length in lengths) or sum(lengths) != len(dataset):
        raise ArgumentError(
            "random_split",
            f"lengths {list(lengths)}",
            f"numbers from 0 that add up to the {len(dataset)} samples",
        )
    order = np.random.default_rng(seed).permutation(len(dataset))
    ends = np.cumsum(lengths)
    return [Subset(dataset, order[end - length : end]) for length, end in zip(lengths, ends, strict=True)]
