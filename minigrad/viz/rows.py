"""What a captured graph consists of: rows of plain values, as they stand in the file `minigrad.graph/1`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["Module", "Mutation", "Operation", "Statistics", "Storage", "TensorRow", "Use", "plain"]


@dataclass(slots=True)
class Statistics:
    """Elements of one array summed up; `hist` counts them in equal parts between `min` and `max`. None: not finite."""

    norm: float | None
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    zeros: float
    nonfinite: int
    hist: list[int] | None = None


@dataclass(slots=True)
class Module:
    """One call of a layer: its path and class, inside which other call, and which of its path's calls it is."""

    id: str
    path: str
    type: str
    parent: str | None
    call: int = 1
    phase: int = 0
    training: bool | None = None
    hyper: str = ""


@dataclass(slots=True)
class Storage:
    """Memory that one or more arrays share, and what owns it: param, buffer, input, const or act."""

    id: str
    nbytes: int
    kind: str


@dataclass(slots=True)
class TensorRow:
    """One array: kind is param, buffer, input, const, act or error; `gram` holds, for a tensor that is used several
    times, the inner products of the partial gradients of `gram_uses`, so that the norm of any sum of them is known.
    """

    id: str
    name: str
    kind: str
    shape: list[int]
    dtype: str
    nbytes: int
    storage: str | None = None
    stats: Statistics | None = None
    grad: Statistics | None = None
    value: float | None = None
    gram_uses: list[int] = field(default_factory=list)
    gram: list[list[float]] = field(default_factory=list)


@dataclass(slots=True)
class Operation:
    """One operation. `parent`: the operation that it is a part of; `body`: its own parts, empty where it has none;
    `group`: parts that can only be opened together; `phase`: 0 forward, k made by the k-th backward pass;
    `kept`: which of its outputs it holds for backward (inputs: see `Use.saved`).
    """

    id: str
    op: str
    kind: str
    module: str | None = None
    parent: str | None = None
    group: str | None = None
    body: list[str] = field(default_factory=list)
    inputs: list[str | None] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attrs: dict[str, Any] = field(default_factory=dict)
    kept: list[int] = field(default_factory=list)
    text: str = ""
    formula: str = ""
    time_us: float | None = None
    bwd_time_us: float | None = None
    order: int = 0
    bwd_order: int | None = None
    phase: int = 0


@dataclass(slots=True)
class Use:
    """One edge: operation `op` reads `tensor` as its argument number `arg`, called `role`; whether it is held for
    backward, whether a gradient can pass, and the gradient through this edge alone, in the tensor's shape.
    """

    op: str
    arg: int
    tensor: str
    role: str = ""
    saved: bool = False
    differentiable: bool = False
    grad: Statistics | None = None


@dataclass(slots=True)
class Mutation:
    """A side effect: the operation writes a new value for the tensor, outside differentiation."""

    op: str
    tensor: str


def plain(row: Any) -> Any:
    """A row as dictionaries and lists; what is None, empty or a default is left out."""
    if isinstance(row, (list, tuple)):
        return [plain(each) for each in row]
    if not hasattr(row, "__dataclass_fields__"):
        return row
    out = {}
    for f in fields(row):
        value = getattr(row, f.name)
        if value is None or value is False or value == [] or value == {} or (value == "" and f.default == ""):
            continue
        out[f.name] = plain(value)
    return out
