"""What failed: the operation or layer that an error came out of, read off its traceback."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NamedTuple

from minigrad import op as op_module
from minigrad.layers.module import Module
from minigrad.modes import current
from minigrad.viz.builder import attributes

__all__ = ["Failure", "failure"]

_APPLY = (op_module.apply.__code__, op_module.apply2.__code__)


class Failure(NamedTuple):
    """Name, scope, inputs and hyper-parameters of what failed."""

    name: str
    scope: Any
    inputs: list[Any]
    attrs: dict[str, Any]


def failure(error: BaseException, trace: TracebackType) -> Failure:
    """The innermost operation whose text refused, else the innermost layer, else the error alone."""
    layer: Failure | None = None
    scope: Any = None
    step: TracebackType | None = trace
    while step is not None:
        frame = step.tb_frame
        seen = frame.f_locals
        if frame.f_code is Module.__call__.__code__:
            scope = seen.get("scope", scope)
            layer = Failure(type(seen["self"]).__name__, scope, list(seen["args"]), {})
        elif frame.f_code in _APPLY:
            inputs = list(seen["xs"]) if "xs" in seen else [seen["a"], seen["b"]]
            return Failure(seen["op"].name, scope or current().scope, inputs, attributes(seen["op"]))
        step = step.tb_next
    return layer or Failure(type(error).__name__, None, [], {})
