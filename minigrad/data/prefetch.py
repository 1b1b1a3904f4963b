"""Batches copied to a GPU ahead of their use, from pinned memory, on a stream of their own.

While step n is computed, batch n + 1 is on its way:

    consumer's stream    wait for copy n │ step n ................. │ wait for copy n + 1 │ step n + 1
    side stream                          └ wait for step n − 1, copy n + 1 ┘

Memory of a batch comes from the consumer's stream, which is the one that gives it back: nothing else may write to
it before the steps that were given the batch are done. So a copy waits for what the consumer had been given by then.
Pinned memory is kept until its copy is done.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from minigrad.backend import Array, Device, as_array

__all__ = ["pinned", "prefetched"]

Sample = tuple[Any, ...]


def pinned(field: Any) -> np.ndarray:
    """A copy of an array in pinned host memory, from where a GPU copies by itself."""
    import cupyx

    source = as_array(field)
    target: np.ndarray = cupyx.empty_pinned(source.shape, dtype=source.dtype)
    target[...] = source
    return target


class _Copies:
    """Copies to one device that are under way."""

    def __init__(self, device: Device) -> None:
        import cupy

        self._cuda, self._empty, self._device = cupy.cuda, cupy.empty, device
        with cupy.cuda.Device(device.index):
            self._stream = cupy.cuda.Stream(non_blocking=True)
        self._sources: collections.deque[tuple[Any, list[np.ndarray]]] = collections.deque()

    def start(self, fields: Sample) -> tuple[list[Array], Any]:
        """Begin to copy a batch; its arrays, and the event after which they may be used."""
        sources = [pinned(field) for field in fields]
        with self._cuda.Device(self._device.index):
            arrays = [self._empty(source.shape, dtype=source.dtype) for source in sources]
            self._stream.wait_event(self._cuda.get_current_stream().record())
            for array, source in zip(arrays, sources):
                array.set(source, stream=self._stream)
            done = self._stream.record()
        self._sources.append((done, sources))
        if len(self._sources) > 2:  # the copy before the last but one has long been used
            self._sources.popleft()[0].synchronize()
        return arrays, done

    def wait(self, done: Any) -> None:
        """Let the consumer's stream wait until a batch is there."""
        with self._cuda.Device(self._device.index):
            self._cuda.get_current_stream().wait_event(done)

    def close(self) -> None:
        """Wait for all copies: then their memory may go."""
        while self._sources:
            self._sources.popleft()[0].synchronize()


def prefetched(batches: Iterable[Sample], device: Device) -> Iterator[Sample]:
    """The batches with their fields on a GPU, each begun to be copied before the one before it is used."""
    copies = _Copies(device)
    ahead: tuple[list[Array], Any] | None = None
    try:
        for fields in itertools.chain(batches, [None]):
            present = ahead
            if present is not None:
                copies.wait(present[1])
            ahead = None if fields is None else copies.start(fields)
            if present is not None:
                yield tuple(present[0])
    finally:  # also where the loop over the batches was left early
        copies.close()
