"""What stands between a caller and the functions: lists made arrays or refused, and errors that name the function.

A right call pays for a `try` alone. A function that was given a list fails where it asks that for its shape, one that
was given another wrong thing fails inside NumPy, and only then does anything here look at the arguments.
"""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minigrad.errors import DtypeError, MinigradError
from minigrad.op import describe, translate, value

__all__ = ["refuse_plain", "takes_arrays", "takes_lists"]

#: What describes an array.
_DESCRIBING = (list, tuple, bool, int, float)
#: What an array is asked for, and a list does not have.
_ASKED = frozenset(("ndim", "shape", "dtype", "size", "device", "astype", "requires_grad", "__array_namespace__"))


def _culprit(error: AttributeError, given: Iterable[Any]) -> tuple[bool, Any]:
    """Whether an argument, or an element of one that is a sequence, was taken for an array; and which."""
    x = error.obj
    if error.name not in _ASKED:
        return False, None
    return any(a is x or (isinstance(a, (list, tuple)) and any(e is x for e in a)) for a in given), x


def refuse_plain(where: str, error: AttributeError, given: Iterable[Any]) -> None:
    """Raise a DtypeError if `error` says that one of the arguments `given` is no array; else do nothing."""
    found, x = _culprit(error, given)
    if found:
        got = "None" if x is None else f"{type(x).__name__} {reprlib.repr(x)}"
        hint = "minigrad.Tensor(…) makes one of it" if isinstance(x, _DESCRIBING) else ""
        raise DtypeError(where, got=got, wanted="a Tensor or an array", hint=hint) from None


def _refuse(where: str, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise what came out of a function's inside as an error that names the function and what it was given."""
    trace = error.__traceback__
    if isinstance(error, MinigradError) or trace is None or trace.tb_next is None:  # ours; or the call itself was wrong
        return
    said = [*map(describe, map(value, args)), *(f"{key}={describe(value(x))}" for key, x in kwargs.items())]
    translate(where, ", ".join(said) or "no arguments", error)


def takes_arrays(function: Callable[..., Any], module: str, name: str) -> Callable[..., Any]:
    """`function` under a name of a module, which refuses lists and numbers in place of arrays: PyTorch's way."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except AttributeError as error:
            refuse_plain(name, error, (*args, *kwargs.values()))
            raise
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            _refuse(name, error, args, kwargs)
            raise

    called.__module__ = module
    return called


def takes_lists(function: Callable[..., Any], module: str, name: str) -> Callable[..., Any]:
    """`function` under a name of a module, which takes lists and numbers for the arrays they describe: NumPy's way."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        while True:
            try:
                return function(*args, **kwargs)
            except AttributeError as error:
                found, x = _culprit(error, (*args, *kwargs.values()))
                if not found:
                    raise
                if not isinstance(x, _DESCRIBING):
                    refuse_plain(name, error, (*args, *kwargs.values()))
                args = tuple(_replaced(a, x) for a in args)
                kwargs = {key: _replaced(a, x) for key, a in kwargs.items()}
            except (ValueError, TypeError, IndexError, OverflowError) as error:
                _refuse(name, error, args, kwargs)
                raise

    called.__module__ = module
    return called


def _replaced(a: Any, x: Any) -> Any:
    """`a`, or the array that it describes if it is `x`; in a sequence its elements likewise."""
    if a is x:
        return np.asarray(a)
    return [_replaced(e, x) for e in a] if isinstance(a, (list, tuple)) and any(e is x for e in a) else a
