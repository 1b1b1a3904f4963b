"""What a call needs to know of its surroundings, in one immutable value behind one context variable.

Reading one `ContextVar` costs about 18 ns; four thread-locals would cost four times that on every operation. The value
is replaced as a whole, never changed, so threads and coroutines cannot see each other's half-made settings.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

__all__ = ["KERNEL_TIERS", "STEP", "Mode", "current", "enable_grad", "is_grad_enabled", "layer_path", "no_grad",
           "set_grad_enabled", "switch"]

#: A chain of layers being called, innermost first: (scope outside, attribute name, class name).
Scope = tuple[Any, str, str]
#: The class name of an entry that is no layer but a named step of an operation's text: (scope outside, name, STEP).
STEP = "step"
F = TypeVar("F", bound=Callable[..., Any])


class Mode:
    """recording: do operations leave nodes; scope: the layers being called; observers: who is told of every event;
    recomputing: a forward pass runs a second time, so that nothing may be counted twice; kernels: up to which tier of
    `KERNEL_TIERS` operations may be run by kernels; statistics: the blocks that receive the updates of running
    statistics, innermost last (see `minigrad.layers.statistics`); outer: what a `switch` goes back to.
    """

    __slots__ = ("recording", "scope", "observers", "recomputing", "kernels", "statistics", "outer", "_other")

    def __init__(self, recording: bool, scope: Scope | None, observers: tuple[Any, ...], recomputing: bool,
                 kernels: int, statistics: tuple[Any, ...] = (), outer: Mode | None = None) -> None:
        self.recording, self.scope, self.observers = recording, scope, observers
        self.recomputing, self.kernels, self.statistics, self.outer = recomputing, kernels, statistics, outer
        self._other: Mode | None = None

    def replace(self, **changes: Any) -> Mode:
        """A copy of this mode with some fields changed."""
        new = Mode(self.recording, self.scope, self.observers, self.recomputing, self.kernels, self.statistics, self)
        for name, value in changes.items():
            setattr(new, name, value)
        return new

    def recorded(self, recording: bool) -> Mode:
        """The same with recording on or off. Every backward pass asks for it, so it is made once."""
        if self.recording == recording:
            return self
        if self._other is None:
            self._other = self.replace(recording=not self.recording)
            self._other.outer = None  # it is left by a token, and shall not refer back
        return self._other


#: What ``MINIGRAD_KERNELS`` may say: operations' own texts, blocked NumPy beside them, compiled kernels too, and other
#: libraries' as well.
KERNEL_TIERS = {"text": 0, "numpy": 1, "compiled": 2, "all": 3}


def _tier_of_process() -> int:
    name = os.environ.get("MINIGRAD_KERNELS", "all")
    if name not in KERNEL_TIERS:
        raise ValueError(f"MINIGRAD_KERNELS: got {name!r}; wanted one of {', '.join(KERNEL_TIERS)}")
    return KERNEL_TIERS[name]


_default = Mode(True, None, (), False, _tier_of_process())
_mode: ContextVar[Mode] = ContextVar("minigrad.mode", default=_default)
current = _mode.get
enter = _mode.set
leave = _mode.reset


class switch:
    """Change fields of the mode inside a `with` block, or around every call of a decorated function.

    It holds no state of its own, so one object serves nested blocks and several threads.
    """

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def changed(self, mode: Mode) -> Mode:
        """The mode inside the block, from the one outside."""
        return mode.replace(**self.changes)

    def __enter__(self) -> switch:
        enter(self.changed(current()))
        return self

    def __exit__(self, *exc: object) -> None:
        enter(current().outer)  # type: ignore[arg-type]

    def __call__(self, function: F) -> F:
        if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function) \
                or inspect.isasyncgenfunction(function):  # the call only makes it; it would run outside
            raise TypeError(f"{function.__name__} is a generator or coroutine: write a `with` block inside it instead")

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


def no_grad() -> switch:
    """Leave no nodes: `with no_grad():` or `@no_grad()`."""
    return switch(recording=False)


def enable_grad() -> switch:
    """Record again inside a `no_grad` block."""
    return switch(recording=True)


def set_grad_enabled(enabled: bool) -> switch:
    """Record or not, by a flag: `with set_grad_enabled(training):`."""
    return switch(recording=bool(enabled))


def is_grad_enabled() -> bool:
    """Whether operations are being recorded here."""
    return current().recording


def layer_path(scope: Scope | None) -> str:
    """The path of the layer being called, as `state_dict` writes it, and its class: ``"features.1 (BatchNorm2d)"``.

    Empty outside every layer. The outermost layer has no name; only its class is shown. Named steps are left out.
    """
    while scope is not None and scope[2] == STEP:
        scope = scope[0]
    if scope is None:
        return ""
    kind = scope[2]
    names = []
    while scope is not None:
        scope, name, _ = scope
        if name:
            names.append(name)
    return f"{'.'.join(reversed(names))} ({kind})".lstrip()
