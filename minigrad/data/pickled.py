"""A reader for pickles that hold plain data: texts, numbers, lists, dicts, arrays of bytes. It executes nothing.

The standard library's `pickletools` divides a pickle into its instructions without following them. This file follows
the few that plain data need, on a stack of its own. The only names it knows are those by which NumPy writes an array,
and these stand for a function of this file; every other instruction or name is refused.
"""

from __future__ import annotations

import pickletools
from typing import Any

import numpy as np
import numpy.typing as npt

from minigrad.errors import StateError

__all__ = ["read_pickle"]

_MARK = object()
_PUSHED = {"SHORT_BINSTRING", "BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINBYTES", "BINBYTES", "BININT",
           "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_FIXED_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# Both names of the module: NumPy 2 calls it `numpy._core`.
_ARRAY = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
_ENCODE = "_codecs encode"
_NAMES = {*_ARRAY, _ENCODE, "numpy ndarray", "numpy dtype"}


class _Name(str):
    """A name that the pickle asks for; it stands for itself and is never looked up."""

    __slots__ = ()


class _Object:
    """What becomes an array or a dtype once its state has been read."""

    def __init__(self, kind: str, arguments: Any) -> None:
        self.kind, self.arguments = kind, arguments


def read_pickle(data: bytes, name: str = "pickle") -> Any:
    """Read the data that a pickle holds.

    Parameters
    ----------
    data : bytes
        As Python 2 or 3 wrote it, with protocol 2 or 3. Texts of Python 2 are taken as Latin-1.
    name : str
        What errors call the file.

    Raises
    ------
    StateError
        The pickle is damaged, or asks for anything but plain data and arrays of bytes.
    """
    try:
        return _Reader(name).read(data)
    except StateError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise StateError(name, got=f"a damaged pickle ({type(error).__name__}: {error})",
                         wanted="plain data") from error


class _Reader:
    def __init__(self, name: str) -> None:
        self.name = name
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self, data: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                (result,) = self.stack
                return result
            self.follow(opcode.name, argument)
        raise StateError(self.name, got="a pickle without an end", wanted="a complete file")

    def follow(self, code: str, argument: Any) -> None:
        """Follow one instruction."""
        stack = self.stack
        if code in _PUSHED:
            stack.append(argument)
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif code in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif code == "MARK":
            stack.append(_MARK)
        elif code in ("EMPTY_DICT", "EMPTY_LIST"):
            stack.append({} if code == "EMPTY_DICT" else [])
        elif code in _FIXED_TUPLES:
            count = _FIXED_TUPLES[code]
            stack.append(tuple(stack.pop() for _ in range(count))[::-1])
        elif code == "TUPLE":
            stack.append(tuple(self.marked()))
        elif code in ("APPEND", "APPENDS"):
            items = self.marked() if code == "APPENDS" else [stack.pop()]
            self.top(list).extend(items)
        elif code in ("SETITEM", "SETITEMS"):
            items = self.marked() if code == "SETITEMS" else [stack.pop() for _ in range(2)][::-1]
            self.top(dict).update(zip(items[::2], items[1::2]))
        elif code == "GLOBAL":
            stack.append(self.known(argument))
        elif code in ("REDUCE", "BUILD"):
            given, what = stack.pop(), stack.pop()
            stack.append((self.made if code == "REDUCE" else self.built)(what, given))
            if code == "BUILD":  # it was remembered before it had its content
                self.memo = {key: stack[-1] if held is what else held for key, held in self.memo.items()}
        elif code != "PROTO":
            raise StateError(self.name, got=f"the instruction {code}", wanted="a pickle of plain data")

    def marked(self) -> list[Any]:
        """What lies above the last mark; it and the mark are taken off."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise StateError(self.name, got=f"items for a {type(self.stack[-1]).__name__}", wanted=f"a {kind.__name__}")
        return self.stack[-1]

    def known(self, name: str) -> _Name:
        if name not in _NAMES:
            raise StateError(self.name, got=f"the name {name!r:.80}", wanted="plain data",
                             hint="Pickles can ask for any code to be run; this one was not")
        return _Name(name)

    def made(self, name: Any, arguments: Any) -> Any:
        """What a call stands for. Only the calls that NumPy writes have a meaning."""
        if type(name) is not _Name or type(arguments) is not tuple:
            raise StateError(self.name, got="a call of what is no name", wanted="plain data")
        if name == _ENCODE and len(arguments) == 2 and arguments[1] == "latin1":
            return arguments[0].encode("latin-1")
        if name in _ARRAY:
            return _Object("array", arguments)
        if name == "numpy dtype" and arguments[0] == "u1":
            return _Object("dtype", arguments)
        raise StateError(self.name, got=f"a call of {name} with {arguments!r:.60}", wanted="an array of bytes")

    def built(self, what: Any, state: Any) -> Any:
        """An array once its state is read: (version, shape, dtype, Fortran order, content)."""
        if type(what) is not _Object:
            raise StateError(self.name, got=f"a state for a {type(what).__name__}", wanted="plain data")
        if what.kind == "dtype":
            return what
        _, shape, dtype, fortran, content = state
        if type(dtype) is not _Object or dtype.kind != "dtype":
            raise StateError(self.name, got="an array of other elements than bytes", wanted="plain data")
        raw = content.encode("latin-1") if isinstance(content, str) else content
        array: npt.NDArray[np.uint8] = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")
        return array
