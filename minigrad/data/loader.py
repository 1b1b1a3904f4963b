"""DataLoader: a data set cut into batches of Tensors, in an order that can be reproduced."""

from __future__ import annotations

import collections
import hashlib
import operator
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from minigrad.backend import Device, as_device
from minigrad.data.dataset import Dataset, Sample
from minigrad.data.prefetch import pinned, prefetched
from minigrad.errors import ArgumentError, DtypeError, StateError
from minigrad.tensor import Tensor


class DataLoader:
    """The samples of a data set in batches; iterating over the loader is one epoch.

    With a `seed`, the order of epoch e depends on (seed, e) and on nothing else: not on what else drew random
    numbers, not on earlier epochs. `state_dict` says in which epoch the loader is and after which batch; a loader
    that has loaded it goes on with the next one.

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
    workers : int, default 0
        Threads that prepare batches ahead, two for each thread; 0 prepares each batch when it is asked for. The
        batches are the same, in the same order, whatever the number.
    device : str or Device, optional
        Where the batches are to be: on a GPU they are copied from pinned memory on a stream of their own, one batch
        ahead of the one in use.
    pin_memory : bool, default False
        Give batches in pinned host memory, from where a GPU copies faster; for `device` that is done anyway.

    Attributes
    ----------
    epoch : int
        The epoch that the next iteration is, from 0. Beginning an iteration adds one, finished or not; it may
        be set, which forgets the place in the epoch.
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
        If `batch_size` < 1, if `pin_memory` comes with the device cpu,
        if `seed` or `workers` < 0, if `seed` or `generator` comes without `shuffle`, or both
        together, or if `drop_last` leaves no batch at all.
    DeviceError
        The device is unknown, or CUDA cannot be used here; the message says what is missing.

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
        workers: int = 0,
        device: str | Device | None = None,
        pin_memory: bool = False,
    ) -> None:
        self.dataset = dataset
        self.batch_size = _whole_number("batch_size", batch_size, least=1)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.generator = generator
        self.seed = None if seed is None else _whole_number("seed", seed, least=0)
        self.workers = _whole_number("workers", workers, least=0)
        self.device = None if device is None else as_device(device)
        self.pin_memory = bool(pin_memory)
        if pin_memory:
            if self.device is not None and self.device.type == "cpu":
                raise ArgumentError("DataLoader", "pin_memory=True with device='cpu'", "a GPU, or no device")
            as_device("cuda")  # says what is missing
        self._started: tuple[int, Any] = (0, None)  # the epoch under way, and the generator before its order was drawn
        self._position = 0  # batches given of it
        self._skip = 0  # batches that the next iteration leaves out: an earlier run has had them
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

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration is, from 0."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch = _whole_number("epoch", epoch, least=0)
        self._skip = self._position = 0
        self._started = (self._epoch, None)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        # The order is drawn here and not in the generator function below, whose body would first run at the
        # first next(): two iterators made one after the other are two epochs, however their batches are
        # interleaved.
        epoch, skip = self._epoch, self._skip
        self._started = (epoch, None if self.generator is None else self.generator.bit_generator.state)
        order = self._order(epoch)
        self._epoch, self._skip, self._position = epoch + 1, 0, skip
        return self._batches(epoch, order, skip)

    def _order(self, epoch: int) -> npt.NDArray[np.intp]:
        count = len(self.dataset)
        if self.generator is not None:
            return self.generator.permutation(count)
        if self.seed is not None:
            return np.random.default_rng([self.seed, epoch]).permutation(count)
        return np.arange(count)

    def _batches(self, epoch: int, order: npt.NDArray[np.intp], skip: int) -> Iterator[tuple[Tensor, ...]]:
        # The number of batches is that of the drawn order, even if the data set has grown meanwhile.
        stop = len(order) - len(order) % self.batch_size if self.drop_last else len(order)
        parts = [order[at : at + self.batch_size] for at in range(skip * self.batch_size, stop, self.batch_size)]
        fetched: Iterator[Sample] = self._fetched(parts, epoch)
        if self.device is not None and self.device.type == "cuda":
            fetched = prefetched(fetched, self.device)
        elif self.pin_memory:
            fetched = (tuple(map(pinned, fields)) for fields in fetched)
        for number, fields in enumerate(fetched, start=skip + 1):
            if self._started[0] == epoch:
                self._position = number
            yield tuple(Tensor(field) for field in fields)
        if self._started[0] == epoch:
            self._started, self._position = (epoch + 1, None), 0

    def _fetched(self, parts: list[npt.NDArray[np.intp]], epoch: int) -> Iterator[Sample]:
        """The samples of each part, in order; with workers, the next ones are fetched meanwhile."""
        if not self.workers:
            for part in parts:
                yield self.dataset.batch_in_epoch(part, epoch)
            return
        ahead: collections.deque[Future[Sample]] = collections.deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="minigrad-loader")
        try:
            for part in parts:
                ahead.append(pool.submit(self.dataset.batch_in_epoch, part, epoch))
                if len(ahead) > 2 * self.workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:  # also where the loop over the batches was left early
            pool.shutdown(wait=True, cancel_futures=True)

    # ---------------------------------------------------------------- going on later

    def state_dict(self) -> dict[str, Any]:
        """Where the latest iteration is: epoch, batches given, and what the order hangs on; JSON can hold it.

        Returns
        -------
        dict
            ``epoch``, ``position``, ``samples``, ``batch_size``, ``seed``, the state of the ``generator`` before it
            drew the epoch's order, and the SHA-256 of that ``order``.
        """
        epoch, generator = self._started
        # Between two epochs a generator is still as it was when the next order is drawn.
        if self.generator is not None and generator is None:
            generator = self.generator.bit_generator.state
        return {"epoch": epoch, "position": self._position, "samples": len(self.dataset),
                "batch_size": self.batch_size, "seed": self.seed, "generator": generator,
                "order": self._order_digest(epoch)}

    def _order_digest(self, epoch: int) -> str | None:
        """What the order of an epoch is known by; None where a generator draws it, which is not to be disturbed."""
        if self.generator is not None:
            return None
        return hashlib.sha256(self._order(epoch).astype("<i8").tobytes()).hexdigest()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken: the next iteration gives the batches that were left of its epoch.

        Raises
        ------
        StateError
            The data set, the batch size or the seed is another, or this version of NumPy draws another order.
            Nothing was changed.
        """
        have = self.state_dict() | {"generator": None}
        wrong = sorted(have.keys() ^ set(state))
        if not wrong:
            wrong = [name for name in ("samples", "batch_size", "seed") if state[name] != have[name]]
            wrong += [name for name in ("epoch", "position") if not _is_count(state[name])]
            wrong += ["generator"] * ((state["generator"] is None) != (self.generator is None))
        if not wrong and state["order"] != self._order_digest(state["epoch"]):
            wrong = ["order"]
        if wrong:
            raise StateError("DataLoader.load_state_dict", got=f"another {', '.join(wrong)}",
                             wanted="the state of a loader with the same data, batch size and seed")
        if self.generator is not None:
            self.generator.bit_generator.state = state["generator"]
        self.epoch = state["epoch"]
        self._skip = self._position = state["position"]


def _is_count(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def _whole_number(name: str, value: int, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise DtypeError("DataLoader", f"{name}={value!r}", "a whole number") from None
    if number < least:
        raise ArgumentError("DataLoader", f"{name}={number}", f"at least {least}")
    return number
