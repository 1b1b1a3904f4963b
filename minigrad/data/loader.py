"""DataLoader: a data set cut into batches of Tensors, in an order that can be reproduced."""

from __future__ import annotations

import operator
import secrets
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from minigrad.data.dataset import Dataset
from minigrad.errors import ArgumentError, DtypeError
from minigrad.tensor import Tensor


class DataLoader:
    """The samples of a data set in batches; iterating over the loader is one epoch.

    With a `seed`, the order of epoch e depends on (seed, e) and on nothing else: not on what else drew random
    numbers, not on earlier epochs. So a run that is resumed sets ``loader.epoch`` and meets the orders it
    would have met.

    Parameters
    ----------
    dataset : Dataset
        Where the samples come from; its `batch` method is called once for each batch.
    batch_size : int, default 1
        Samples in a batch.
    shuffle : bool, default False
        Take the samples in a new random order in every epoch, each of them once.
    seed : int, optional
        Decides the orders, from 0. With `shuffle` and neither `seed` nor `generator`, a seed is drawn from
        the operating system; it stands in the attribute `seed`, so that a run can note it.
    generator : numpy.random.Generator, optional
        Draws the orders instead, one after another; then an epoch's order depends on what was drawn before.
    drop_last : bool, default False
        Leave out the last batch where it is smaller than the others. BatchNorm cannot train on a batch of one
        sample, and a small one makes its statistics noisy.

    Attributes
    ----------
    epoch : int
        The epoch that the next iteration is, from 0. Beginning an iteration adds one, finished or not; it may
        be set.
    seed : int or None
        The seed in use; None without `shuffle` or with a `generator`.

    Yields
    ------
    tuple of Tensor
        One Tensor for each field of the samples, of the field's shape and dtype with the batch size in
        front, and without gradient.

    Raises
    ------
    DtypeError
        If `batch_size` or `seed` is not a whole number.
    ArgumentError
        If `batch_size` < 1, if `seed` < 0, if `seed` or `generator` comes without `shuffle`, or both
        together, or if `drop_last` leaves no batch at all.

    Examples
    --------
    >>> from minigrad.data import TensorDataset
    >>> loader = DataLoader(TensorDataset(np.arange(5)), batch_size=2)
    >>> [x.numpy().tolist() for x, in loader]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        seed: int | None = None,
        generator: np.random.Generator | None = None,
        drop_last: bool = False,
    ) -> None:
        self.dataset = dataset
        self.batch_size = _whole_number("batch_size", batch_size, least=1)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.generator = generator
        self.seed = None if seed is None else _whole_number("seed", seed, least=0)
        self.epoch = 0
        self._check_order()
        if drop_last and 0 < len(dataset) < self.batch_size:
            raise ArgumentError(
                "DataLoader",
                f"drop_last=True with batch_size={self.batch_size} and a data set of {len(dataset)} samples",
                "at least one whole batch",
            )
        if shuffle and self.seed is None and generator is None:
            self.seed = secrets.randbits(32)

    def _check_order(self) -> None:
        if self.seed is not None and self.generator is not None:
            raise ArgumentError("DataLoader", "both seed and generator", "one of them")
        if not self.shuffle and (self.seed is not None or self.generator is not None):
            raise ArgumentError("DataLoader", "a seed or a generator with shuffle=False", "shuffle=True")

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        # The order is drawn here and not in the generator function below, whose body would first run at the
        # first next(): two iterators made one after the other are two epochs, however their batches are
        # interleaved.
        order = self._order(self.epoch)
        self.epoch += 1
        return self._batches(order)

    def _order(self, epoch: int) -> npt.NDArray[np.intp]:
        count = len(self.dataset)
        if self.generator is not None:
            return self.generator.permutation(count)
        if self.seed is not None:
            return np.random.default_rng([self.seed, epoch]).permutation(count)
        return np.arange(count)

    def _batches(self, order: npt.NDArray[np.intp]) -> Iterator[tuple[Tensor, ...]]:
        # The number of batches is that of the drawn order, even if the data set has grown meanwhile.
        stop = len(order) - len(order) % self.batch_size if self.drop_last else len(order)
        for start in range(0, stop, self.batch_size):
            fields = self.dataset.batch(order[start : start + self.batch_size])
            yield tuple(Tensor(field) for field in fields)


def _whole_number(name: str, value: int, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise DtypeError("DataLoader", f"{name}={value!r}", "a whole number") from None
    if number < least:
        raise ArgumentError("DataLoader", f"{name}={number}", f"at least {least}")
    return number
