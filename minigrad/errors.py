"""Errors that say where, what was got, what was wanted, and what to do about it.

Every class also derives from the built-in exception that a NumPy user would expect, so `except ValueError` works.
"""

from __future__ import annotations

from minigrad.modes import current, layer_path

__all__ = ["ArgumentError", "DeviceError", "DivergedError", "DtypeError", "GraphError", "MinigradError", "ShapeError",
           "StateError", "not_while_recording"]


class MinigradError(Exception):
    """Base of all errors that minigrad raises on purpose.

    Parameters
    ----------
    where : str
        The operation or function that refuses, e.g. ``"conv2d"``. The path of the layer being called is added.
    got, wanted, hint : str, optional
        What was passed, what would have been right, and how to get there.
    """

    def __init__(self, where: str, got: str = "", wanted: str = "", hint: str = "") -> None:
        layer = layer_path(current().scope)
        text = f"{where} in layer {layer}" if layer else where
        said = [f"{label} {value}" for label, value in (("got", got), ("wanted", wanted)) if value]
        if said:
            text += ": " + "; ".join(said)
        if hint:
            text += f". {hint}"
        super().__init__(text)


class ShapeError(MinigradError, ValueError):
    """A rank, shape or axis does not fit."""


class ArgumentError(MinigradError, ValueError):
    """An option is out of range or unknown."""


class DtypeError(MinigradError, TypeError):
    """A type of argument or element does not fit."""


class DeviceError(MinigradError, RuntimeError):
    """A device is missing, or arrays of two devices meet."""


class GraphError(MinigradError, RuntimeError):
    """The recorded graph cannot answer: freed, changed in place, not connected, or nothing to differentiate."""


class StateError(MinigradError, ValueError):
    """A state (of a module, an optimizer, a file) does not fit what it is loaded into."""


class DivergedError(MinigradError, ArithmeticError):
    """Training has left the finite numbers; the text names the first operation and layer that did."""


def not_while_recording(where: str, hint: str) -> None:
    """Refuse what a CUDA graph cannot repeat, while one is being recorded (see `minigrad.cuda.replay`)."""
    if current().graph is not None:
        raise GraphError(where, got="a call inside a step that is being recorded as a CUDA graph",
                         wanted="it outside of the step", hint=hint)
