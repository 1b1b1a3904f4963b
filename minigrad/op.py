"""`Op`, one class per operation, and `apply`, the only place where an operation is recorded.

Tensors are known here by their base class `Traced` alone; results are made with the class that the Tensor argument
itself names, so that nothing in this file or below it imports Tensor.
"""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable
from operator import itemgetter
from typing import Any, ClassVar, TypeVar

import numpy as np

from minigrad.backend import (
    Array,
    accumulation_dtype,
    as_array,
    astype,
    device_of,
    is_array,
    is_floating,
    is_number,
    namespace,
    number,
    transfer,
)
from minigrad.errors import ArgumentError, DeviceError, DtypeError, MinigradError, ShapeError
from minigrad.graph import Node
from minigrad.modes import STEP, Mode, current, enter, leave, switch
from minigrad.versions import tick

__all__ = ["Op", "Traced", "apply", "apply2", "beside", "describe", "holds", "inputs", "operand", "outputs", "refuse",
           "restore", "returned", "step", "sum_to", "together", "total", "translate", "value"]

ndarray = np.ndarray
new = object.__new__
F = TypeVar("F", bound=Callable[..., Any])
_PLAIN = frozenset((float, int, bool, type(None)))  # numbers stay Python numbers: NumPy keeps them weak


class Traced:
    """Base of Tensor: what `apply` records."""

    __slots__ = ()
    data: Any
    requires_grad: bool
    edge: Any
    result: ClassVar[type]
    constant: Callable[[Any], Any]
    detach: Callable[[], Any]
    astype: Callable[[Any], Any]


# ------------------------------------------------------------------ what backward needs is declared


def inputs(*indices: int, when: int | tuple[int, ...] | None = None) -> tuple[tuple[str, int, Any], ...]:
    """Declare inputs that backward needs; with `when`, only where the gradient of one of those inputs is needed."""
    return tuple(("input", i, (when,) if isinstance(when, int) else when) for i in indices)


def outputs(*indices: int, when: int | tuple[int, ...] | None = None) -> tuple[tuple[str, int, Any], ...]:
    """Declare outputs that backward needs; `when` as in `inputs`."""
    return tuple(("output", i, (when,) if isinstance(when, int) else when) for i in indices)


class Op:
    """One operation. A subclass gives, with arrays of any namespace or Tensors alike:

    ``forward(self, *inputs)``
        the output, or a tuple of them. An absent input is None. Numbers arrive as Python numbers.
    ``backward(self, saved, needs, *output_gradients)``
        a tuple with the gradient of every input, or None. `saved` holds what `keeps` declares, in that order; an output
        without a gradient gives None in its place.

    On ``self`` stand hyper-parameters and shapes only. Arrays that backward needs come through `saved`: the engine
    turns them back into Tensors with their history when a graph of the backward pass is wanted. That one rule is what
    makes derivatives right at every order.

    Class attributes
    ----------------
    keeps : what backward needs, built from `inputs` and `outputs`
    n_out : number of outputs that have a derivative
    n_aux : number of further outputs without one (indices, masks)
    broadcasts : inputs may be broadcast or promoted against each other; their gradients are then summed and cast back
    promotes : inputs may differ in dtype, and their gradients are cast back, but have their shapes already
    differentiable : False for comparisons and the like: never recorded
    widens : results may be wider than the inputs on purpose; else bfloat16, which NumPy widens for want of loops, stays
    """

    __slots__ = ()
    keeps: ClassVar[tuple[tuple[str, int, Any], ...]] = ()
    n_out: ClassVar[int] = 1
    n_aux: ClassVar[int] = 0
    broadcasts: ClassVar[bool] = False
    promotes: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    widens: ClassVar[bool] = False
    several: ClassVar[bool]
    trusted: ClassVar[bool]
    _selectors: ClassVar[dict[tuple[bool, ...], Callable[[tuple[Any, ...]], tuple[Any, ...]]]]

    def __init_subclass__(cls) -> None:
        cls.several = cls.n_out + cls.n_aux > 1
        cls.trusted = cls.__module__.startswith("minigrad.ops.")  # tests see to its gradients' shapes, not the engine
        cls._selectors = {}
        for phase in ("forward", "backward"):  # kernels may overlay these; the texts stay
            if phase in cls.__dict__:
                setattr(cls, f"run_{phase}", cls.__dict__[phase])

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    run_forward: Callable[..., Any]
    run_backward: Callable[..., Any]

    @classmethod
    def select(cls, needs: tuple[bool, ...]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
        """A C-level selector of what is kept, out of (*inputs, *outputs, None); None fills what is not needed."""
        n_in = len(needs)
        nothing = n_in + cls.n_out + cls.n_aux
        slots = []
        for kind, i, when in cls.keeps:
            wanted = when is None or any(needs[k] for k in when)
            slots.append((i if kind == "input" else n_in + i) if wanted else nothing)
        pick = itemgetter(*slots) if len(slots) > 1 else itemgetter(slice(slots[0], slots[0] + 1))
        return cls._selectors.setdefault(needs, pick)

    @property
    def name(self) -> str:
        """The operation's name, for pictures and messages."""
        return type(self).__name__

    def __repr__(self) -> str:
        slots = [s for c in reversed(type(self).__mro__) for s in getattr(c, "__slots__", ()) if not s.startswith("_")]
        shown = ", ".join(f"{s}={getattr(self, s)!r}" for s in slots if not is_array(getattr(self, s, None)))
        return f"{self.name}({shown})" if shown else self.name


# ------------------------------------------------------------------ apply


def apply(op: Op, *xs: Any, first: bool = False) -> Any:
    """Run `op` on arrays, numbers, None and Tensors. Without a Tensor among them, arrays come back unrecorded.

    With `first`, only the first of several outputs is a Tensor and the others come as they are, for a caller that
    wants their values alone: a Tensor costs a third of a microsecond.

    Raises
    ------
    ShapeError, DtypeError, DeviceError
        The text refused its arguments; the message names the operation, the layer, and all shapes and dtypes.
    """
    mode = current()
    tensor = None
    tracked = False
    ins: list[Any] = []
    edges: list[Any] = []
    needs: list[bool] = []
    for x in xs:
        if isinstance(x, Traced):
            tensor = x
            ins.append(x.data)
            if x.requires_grad:
                tracked = True
                needs.append(True)
                edges.append(x if x.edge is None else x.edge)
                continue
        else:
            ins.append(x if x.__class__ in _PLAIN else operand(op, x))
        needs.append(False)
        edges.append(None)
    try:
        out = op.run_forward(*ins)
    except Exception as error:
        refuse(op, ins, error)
        raise
    if tensor is None:
        return out
    if op.several or tensor.data.dtype.kind == "V":
        outs = _outputs(op, ins, out)
    else:
        outs = (out if out.__class__ is ndarray else as_array(out),)
    node = None
    if tracked and mode.recording and op.differentiable:
        node = record(op, ins, outs, edges, tuple(needs), mode.scope)
    t: Any = new(tensor.result)
    t.data = outs[0]
    t.grad = t.name = None
    t.requires_grad = node is not None
    t.edge = node
    if (first or not op.several) and not mode.observers:
        return (t, *outs[1:]) if op.several else t
    tensors = [t]
    for k in range(1, len(outs)):
        t = tensor.constant(outs[k])
        if node is not None and k < op.n_out:
            t.edge, t.requires_grad = (node, k), True
        tensors.append(t)
    if mode.observers:
        tell(mode, op, node, xs, tensors)
    if first:
        return (tensors[0], *outs[1:])
    return tuple(tensors) if op.several else tensors[0]


def operand(op: Op, x: Any) -> Array:
    """An argument that is neither Tensor nor plain number, as an array of numbers."""
    array = x if x.__class__ is ndarray else as_array(x)
    if not is_number(array.dtype):
        raise DtypeError(op.name, got=f"{type(x).__name__} of dtype {array.dtype}",
                         wanted="a Tensor, an array or a number; bool, integers or floating point")
    return array


def _outputs(op: Op, ins: list[Any], out: Any) -> tuple[Array, ...]:
    """What a forward text returned, as arrays: a tuple of as many as the operation has."""
    if not op.several:
        out = (out,)
    elif out.__class__ is not tuple or len(out) != op.n_out + op.n_aux:
        raise ArgumentError(f"forward of {op.name}", got=f"{returned(out)} from its text",
                            wanted=f"a tuple of {op.n_out + op.n_aux} outputs")
    if ins[0].__class__ is ndarray and ins[0].dtype.kind == "f":  # the usual case: nothing to make narrower
        for o in out:
            if o.__class__ is not ndarray:
                return tuple([as_array(o) for o in out])
        return out  # type: ignore[no-any-return]
    return tuple([_narrow(op, ins, o if o.__class__ is ndarray else as_array(o)) for o in out])


def _narrow(op: Op, ins: Any, out: Array) -> Array:
    """`out` in bfloat16 if all floating-point inputs are: with numbers, and in products, NumPy gives float32."""
    if op.widens or out.dtype.kind != "f":
        return out
    found = {x.dtype for x in ins if is_array(x) and is_floating(x.dtype)}
    return astype(out, found.pop()) if found and all(dtype.kind == "V" for dtype in found) else out


def tell(mode: Mode, op: Op, node: Node | None, xs: Any, tensors: Any) -> None:
    """Tell the observers of an operation. What they compute themselves is neither recorded nor observed."""
    token = enter(mode.replace(recording=False, observers=()))
    try:
        for observer in mode.observers:
            observer.forward(op, node, mode.scope, xs, tensors)
    finally:
        leave(token)


def record(op: Op, ins: list[Any], outs: tuple[Any, ...], edges: list[Any], needs: tuple[bool, ...],
           scope: Any) -> Node:
    """The node of one operation that was just computed."""
    node = Node()
    node.op, node.edges, node.needs, node.scope, node.seq = op, tuple(edges), needs, scope, tick()
    if op.keeps:
        node.saved = (op._selectors.get(needs) or op.select(needs))((*ins, *outs, None))
    else:
        node.saved = ()
    node.like = None
    if op.broadcasts or not op.trusted:
        node.like = _like(ins, needs, outs[0] if op.trusted else None)
    elif op.promotes:
        dtype = outs[0].dtype
        for x, need in zip(ins, needs):
            if need and x.dtype is not dtype:
                node.like = _like(ins, needs, None)
                break
    return node


def apply2(op: Op, a: Any, b: Any) -> Any:
    """`apply` unrolled for two inputs and one output: the way of every arithmetic operator, written for speed."""
    mode = current()
    if isinstance(a, Traced):
        x, tensor, track_a = a.data, a, a.requires_grad
    else:
        x, tensor, track_a = a if a.__class__ in _PLAIN else operand(op, a), None, False
    if isinstance(b, Traced):
        y, tensor, track_b = b.data, b, b.requires_grad
    else:
        y, track_b = b if b.__class__ in _PLAIN else operand(op, b), False
    try:
        z = op.run_forward(x, y)
    except Exception as error:
        refuse(op, (x, y), error)
        raise
    if tensor is None:
        return z
    if z.__class__ is not ndarray:
        z = as_array(z)
    dtype = z.dtype
    if dtype is not tensor.data.dtype and tensor.data.dtype.kind == "V":
        z = _narrow(op, (x, y), z)
    t: Any = new(tensor.result)
    t.data = z
    t.grad = t.name = None
    if (track_a or track_b) and mode.recording and op.differentiable:
        t.edge = node = Node()
        t.requires_grad = True
        node.op = op
        node.edges = (
            (a if a.edge is None else a.edge) if track_a else None,
            (b if b.edge is None else b.edge) if track_b else None,
        )
        node.needs = needs = (track_a, track_b)
        node.scope = mode.scope
        node.seq = tick()
        node.saved = (op._selectors.get(needs) or op.select(needs))((x, y, z, None)) if op.keeps else ()
        shape = z.shape
        same = (not track_a or (x.dtype is dtype and x.shape == shape)) and (
            not track_b or (y.dtype is dtype and y.shape == shape)
        )
        node.like = None if same else _like((x, y), needs, z)
    else:
        t.edge = node = None
        t.requires_grad = False
    if mode.observers:
        tell(mode, op, node, (a, b), (t,))
    return t


def _like(ins: Any, needs: tuple[bool, ...], out: Array | None) -> tuple[Any, ...] | None:
    """Per input what its gradient must be brought back to; None if every one has the shape and dtype of `out`."""
    wanted = [(x.shape, x.dtype) if need else None for x, need in zip(ins, needs)]
    same = out is not None and all(w is None or w == (out.shape, out.dtype) for w in wanted)
    return None if same else tuple(wanted)


# ------------------------------------------------------------------ gradients brought back to their input's shape


def total(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """Sum over axes; arrays of half precision are summed in float32 and cast back."""
    xp = namespace(x)
    if isinstance(x, Traced) or accumulation_dtype(x.dtype) == x.dtype:
        return xp.sum(x, axis=axis, keepdims=keepdims)
    return astype(xp.sum(astype(x, accumulation_dtype(x.dtype)), axis=axis, keepdims=keepdims), x.dtype)


def sum_to(x: Any, shape: tuple[int, ...]) -> Any:
    """Sum over the axes along which `shape` was broadcast to ``x.shape``: the adjoint of broadcasting."""
    if x.shape == shape:
        return x
    lead = x.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1)
    xp = namespace(x)
    return xp.reshape(total(x, axes, True) if axes else x, shape)


def restore(gradient: Any, like: tuple[tuple[int, ...], Any] | None) -> Any:
    """A gradient summed and cast to the shape and dtype of the input it belongs to."""
    if gradient is None or like is None:
        return gradient
    shape, dtype = like
    gradient = sum_to(gradient, shape)
    if gradient.dtype == dtype:
        return gradient
    return gradient.astype(dtype) if isinstance(gradient, Traced) else astype(gradient, dtype)


def value(x: Any) -> Any:
    """The array of a Tensor, else `x`: for decisions that a text takes on values, never for derivatives."""
    return x.data if isinstance(x, Traced) else x


def beside(x: Any, other: Any) -> Any:
    """`x`, if it is a NumPy array, on the device of the array or Tensor `other`; anything else as it is.

    For masks, indices and counts: as a NumPy array or a list they say which elements, wherever those are. A Tensor has
    a device, which has to be the right one.
    """
    if x.__class__ is not ndarray:
        return x
    other = value(other)
    return x if other.__class__ is ndarray or not is_array(other) else transfer(x, device_of(other))


def together(where: str, x: Any, other: Any) -> None:
    """Refuse two arrays or Tensors that are not on one device, where a library would move one without a word."""
    x, other = value(x), value(other)
    if x.__class__ is not other.__class__ and device_of(x) != device_of(other):
        raise _apart(where, {str(device_of(x)), str(device_of(other))})


def _apart(where: str, places: set[str]) -> DeviceError:
    return DeviceError(where, got=f"arrays on {' and '.join(sorted(places))}", wanted="all on one device",
                       hint="Move them with .to(device)")


def holds(condition: Any) -> bool:
    """Whether all elements of a bool array are true: for refusing what no text can work with. A GPU is waited for."""
    if condition.__class__ is ndarray:
        return bool(condition.all())  # half the time of NumPy's function
    return bool(number(namespace(condition).all(condition)))


def step(function: F) -> F:
    """Name a part of a text. What it records on Tensors carries the name, as innermost entry of the scope.

    So a graph can be shown in named steps first and in primitives second (see `minigrad.expansion`). On arrays, the
    function runs as it is.
    """

    @functools.wraps(function)
    def named(*args: Any) -> Any:
        for x in args:
            if isinstance(x, Traced):
                with switch(scope=(current().scope, function.__name__, STEP)):
                    return function(*args)
        return function(*args)

    return named  # type: ignore[return-value]


# ------------------------------------------------------------------ errors


def describe(x: Any) -> str:
    """An argument for an error message: dtype and shape of an array, the value of a number."""
    return f"{x.dtype}{list(x.shape)}" if is_array(x) else reprlib.repr(x)


def returned(x: Any) -> str:
    """What a text returned, for an error message."""
    return f"a tuple of {len(x)}" if isinstance(x, tuple) else type(x).__name__


#: What NumPy raises, and what we do.
_ERRORS = {ValueError: ShapeError, IndexError: ShapeError, TypeError: DtypeError, OverflowError: ArgumentError}


def refuse(op: Op, ins: Any, error: Exception, phase: str = "") -> None:
    """Raise what a text raised as an error that names operation, layer, shapes, dtypes and devices, if it can be."""
    if isinstance(error, MinigradError):
        return
    got = ", ".join(describe(x) for x in ins)
    arrays = [x for x in ins if is_array(x)]
    places = {str(device_of(x)) for x in arrays}
    if len(places) > 1:
        raise _apart(f"{phase}{op.name}", places) from error
    translate(f"{phase}{op!r}", got, error)


def translate(where: str, got: str, error: Exception) -> None:
    """Raise our error for what NumPy raised, with its text as the hint, if there is one of the kind."""
    for theirs, ours in _ERRORS.items():
        if isinstance(error, theirs):
            raise ours(where, got=got, hint=str(error)) from error
