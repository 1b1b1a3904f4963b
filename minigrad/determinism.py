"""Whether sums may be taken by atomics on a GPU, whose order is another in every run: one flag for the process.

`minigrad.cuda.deterministic` is the switch for users, and says what it guarantees.
"""

from __future__ import annotations

import os

from minigrad.backend import Array, device_of, ndarray
from minigrad.errors import DeviceError

__all__ = ["atomics_refused", "refuse_atomics", "set_atomics_refused"]

_refused = os.environ.get("MINIGRAD_DETERMINISTIC", "") not in ("", "0")


def set_atomics_refused(refused: bool) -> None:
    """Refuse atomics in this process, or no longer."""
    global _refused  # noqa: PLW0603 - of the process, as cuBLAS' workspace is
    _refused = refused


def atomics_refused() -> bool:
    """Whether deterministic mode is on."""
    return _refused


def refuse_atomics(where: str, array: Array) -> None:
    """Refuse an operation that a GPU computes by atomics, in deterministic mode.

    Raises
    ------
    DeviceError
    """
    if _refused and array.__class__ is not ndarray and device_of(array).type == "cuda":
        raise DeviceError(where, got="a sum by atomics, whose order changes from run to run",
                          wanted="an operation with a fixed order",
                          hint="minigrad.cuda.deterministic(False) allows it")
