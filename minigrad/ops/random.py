"""Random numbers from seeded generators, and dropout.

A `Generator` holds one stream per device. The default generator serves calls that name none; `manual_seed` restarts it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad.backend import Device, as_device, namespace, random_stream
from minigrad.errors import ArgumentError
from minigrad.op import Op, apply, inputs

__all__ = ["Generator", "Snapshot", "default_generator", "dropout", "manual_seed", "replayed", "snapshot"]

_all: weakref.WeakSet[Generator] = weakref.WeakSet()


class Generator:
    """A seeded source of random numbers.

    Parameters
    ----------
    seed : int, optional
        0 or larger. Without it, one is drawn from the operating system; `seed` tells which.

    Notes
    -----
    On the CPU the stream is NumPy's PCG64, whose numbers do not change between versions of NumPy for the methods used
    here; on a GPU it is CuPy's, which gives other numbers for the same seed.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.manual_seed(int.from_bytes(os.urandom(6), "big") if seed is None else seed)

    def __new__(cls, *args: Any) -> Generator:
        generator = super().__new__(cls)
        _all.add(generator)  # here, as copies are made without __init__
        return generator

    def manual_seed(self, seed: int) -> Generator:
        """Restart every stream from `seed`."""
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ArgumentError("manual_seed", got=repr(seed), wanted="an integer of 0 or more")
        self.seed = int(seed)
        self.__dict__.pop("_host", None)
        self._streams: dict[Device, Any] = {}
        self._forks = 0
        return self

    @functools.cached_property
    def _host(self) -> np.random.Generator:
        """The stream of the CPU, made when it is first needed: NumPy loads its random numbers only then."""
        return np.random.Generator(np.random.PCG64(self.seed))

    def stream(self, device: str | Device = "cpu") -> Any:
        """The stream of a device: `numpy.random.Generator`, or CuPy's of the same interface."""
        device = as_device(device)
        if device.type == "cpu":
            return self._host
        if device not in self._streams:
            self._restart(device, self.seed)
        return self._streams[device]

    def _forked_seed(self) -> int:
        """A seed that follows from this generator's own and from how many were asked for."""
        self._forks += 1
        return int(np.random.SeedSequence([self.seed, self._forks]).generate_state(1)[0])

    def _restart(self, device: Device, seed: int) -> None:
        self._streams[device] = random_stream(device, seed)

    def get_state(self) -> dict[str, Any]:
        """The state of the host's stream, as plain numbers that JSON can hold."""
        return {"seed": self.seed, "host": self._host.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` returned."""
        self.manual_seed(state["seed"])
        self._host.bit_generator.state = state["host"]


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Restart the default generator, which initialization, dropout and shuffling use unless given another."""
    return default_generator.manual_seed(seed)


class Snapshot:
    """Where some generators stood, to let them give the same numbers again.

    Streams of a GPU cannot be set back. Each is exchanged for one with a seed that is noted here: so a snapshot changes
    which numbers they give next, while those of the CPU are what they would have been.
    """

    def __init__(self, generators: list[Generator]) -> None:
        self.hosts = [(g, g._host.bit_generator.state) for g in generators]
        self.devices = [(g, device, g._forked_seed()) for g in generators for device in g._streams]
        self._renew()

    def used(self) -> Snapshot:
        """The same, without generators that have given no numbers on the CPU since, and with streams that are new."""
        known = {(id(g), device) for g, device, _ in self.devices}
        self.devices += [(g, device, g.seed) for g, _ in self.hosts for device in g._streams
                         if (id(g), device) not in known]
        self.hosts = [(g, state) for g, state in self.hosts if g._host.bit_generator.state != state]
        return self

    def _renew(self) -> None:
        for generator, device, seed in self.devices:
            generator._restart(device, seed)

    def restore(self) -> None:
        """Let every generator give again what it gave after the snapshot."""
        for generator, state in self.hosts:
            generator._host.bit_generator.state = state
        self._renew()


def snapshot() -> Snapshot:
    """Where all generators stand."""
    return Snapshot(list(_all))


@contextlib.contextmanager
def replayed(earlier: Snapshot) -> Iterator[None]:
    """Inside the block, generators give what they gave after `earlier`; then they go on from where they stand now."""
    now = [(g, g._host.bit_generator.state) for g, _ in earlier.hosts]
    streams = [(g, device, g._streams[device]) for g, device, _ in earlier.devices]
    earlier.restore()
    try:
        yield
    finally:
        for generator, state in now:
            generator._host.bit_generator.state = state
        for generator, device, stream in streams:
            generator._streams[device] = stream


class Dropout(Op):
    """y = x / (1 − p) where kept, else 0;   gx = gy / (1 − p) where kept     (Srivastava et al., JMLR 15, 2014)"""

    __slots__ = ("p",)
    keeps = inputs(1)

    def __init__(self, p):
        self.p = p

    def forward(self, x, kept):
        return namespace(x).where(kept, x * self._scale(), 0.0)

    def backward(self, saved, needs, gy):
        return namespace(gy).where(saved[0], gy * self._scale(), 0.0), None

    def _scale(self):
        return 1 / (1 - self.p) if self.p < 1 else 0.0


def dropout(x: Any, kept: Any, p: float) -> Any:
    """`x` with the elements where `kept` (bool) is False set to 0 and the others divided by 1 − p."""
    return apply(Dropout(p), x, kept)
