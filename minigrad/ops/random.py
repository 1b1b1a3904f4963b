"""Random numbers from seeded generators, and dropout.

A `Generator` holds one stream per device. The default generator serves calls that name none; `manual_seed` restarts it.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from minigrad.backend import Device, as_device, namespace
from minigrad.errors import ArgumentError
from minigrad.op import Op, apply, inputs

__all__ = ["Generator", "default_generator", "dropout", "manual_seed"]


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
        self.manual_seed(secrets.randbits(48) if seed is None else seed)

    def manual_seed(self, seed: int) -> Generator:
        """Restart every stream from `seed`."""
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ArgumentError("manual_seed", got=repr(seed), wanted="an integer of 0 or more")
        self.seed = int(seed)
        self._host = np.random.Generator(np.random.PCG64(self.seed))
        self._streams: dict[Device, Any] = {}
        return self

    def stream(self, device: str | Device = "cpu") -> Any:
        """The stream of a device: `numpy.random.Generator`, or CuPy's of the same interface."""
        device = as_device(device)
        if device.type == "cpu":
            return self._host
        if device not in self._streams:
            import cupy

            with cupy.cuda.Device(device.index):
                self._streams[device] = cupy.random.default_rng(self.seed)
        return self._streams[device]

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
