"""Tensor: an array that operations record; and Parameter and Buffer, what layers hold."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from minigrad import engine, ops
from minigrad.backend import (
    Device,
    as_array,
    as_device,
    astype,
    copied,
    device_of,
    is_array,
    is_floating,
    is_number,
    number,
    to_numpy,
    transfer,
)
from minigrad.errors import ArgumentError, DtypeError, GraphError, ShapeError
from minigrad.graph import Retained, hooks, node_of
from minigrad.methods import Methods
from minigrad.op import Traced
from minigrad.ops.shape import broadcasts_to
from minigrad.versions import wrote

__all__ = ["Buffer", "Parameter", "Tensor"]

_OPERATORS = {"add": ops.add, "subtract": ops.subtract, "multiply": ops.multiply, "divide": ops.divide,
              "power": ops.power, "matmul": ops.matmul, "greater": ops.greater, "greater_equal": ops.greater_equal,
              "less": ops.less, "less_equal": ops.less_equal, "equal": ops.equal, "not_equal": ops.not_equal,
              "floor_divide": ops.floor_divide, "remainder": ops.remainder,
              "bitwise_and": ops.logical_and, "bitwise_or": ops.logical_or}
#: NumPy functions that ask and compare, and so may take Tensors with a gradient as the arrays they are.
_ASKING = frozenset((
    "allclose", "array2string", "array_equal", "array_equiv", "array_repr", "array_str", "can_cast", "isclose",
    "iscomplexobj", "isrealobj", "may_share_memory", "ndim", "result_type", "save", "savetxt", "savez",
    "savez_compressed", "shape", "shares_memory", "size"))
#: Where NumPy's name is not ours.
_OURS = {"absolute": "abs", "concatenate": "concat", "amax": "max", "amin": "min", "transpose": "permute_dims",
         "positive": "clone", "invert": "logical_not", "bitwise_not": "logical_not"}


def _array(data: Any, dtype: Any) -> Any:
    """`data` as an array: arrays shared as they are, numbers and lists as float32, int64 or bool."""
    if isinstance(data, Traced):
        data = data.data
    typed = is_array(data) or isinstance(data, np.generic)
    try:
        array = as_array(data)
    except ValueError as error:
        raise ShapeError("Tensor", got=f"nested {type(data).__name__} of uneven lengths", hint=str(error)) from error
    if dtype is not None:
        array = astype(array, np.dtype(dtype))
    elif not typed and array.dtype == np.float64:
        array = array.astype(np.float32)
    if not is_number(array.dtype):
        raise DtypeError("Tensor", got=f"elements of dtype {array.dtype}", wanted="bool, integers or floating point")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


class Tensor(Methods, Traced):
    """An n-dimensional array whose operations are recorded, so that results can be differentiated.

    Parameters
    ----------
    data : array_like
        A NumPy or CuPy array keeps its dtype and is shared, not copied. Python numbers and lists become float32, int64
        or bool.
    requires_grad : bool
        Whether gradients with respect to this Tensor are wanted; floating point only.
    dtype : dtype, optional
        Another dtype for the elements.
    device : str or Device, optional
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``; by default where `data` is.
    name : str, optional
        A name for pictures and messages.

    Attributes
    ----------
    data : array
    requires_grad : bool
    grad : Tensor or None
        What `backward` has accumulated; for leaves, and after `retain_grad()`.
    edge : the output of a node that this Tensor is; None for a leaf

    Notes
    -----
    Tensors are values: ``t += 1`` binds the name to a new Tensor, and ``t[i] = v`` is refused. Only `assign`, the
    optimizers and `load_state_dict` write in place; a graph that still needs the old values then refuses to
    differentiate. Writes through raw arrays, as in ``t.numpy()[...] = 0``, are not seen.

    Examples
    --------
    >>> from minigrad import Tensor
    >>> x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    Tensor([2., 4., 6.], float32)
    """

    __slots__ = ("data", "requires_grad", "grad", "edge", "name", "hooks", "__weakref__")
    result: ClassVar[type]
    data: Any
    requires_grad: bool
    grad: Tensor | None
    edge: Any
    name: str | None

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None, device: str | Device | None = None,
                 name: str | None = None) -> None:
        array = _array(data, dtype)
        self.data = array if device is None else transfer(array, as_device(device))
        self.requires_grad = False
        self.grad = self.edge = None
        self.name = name
        if requires_grad:
            self.requires_grad_()

    # ---------------------------------------------------------------- making Tensors from arrays

    @staticmethod
    def wrap(array: Any, edge: Any = None) -> Tensor:
        """A Tensor around an array as it is, at an edge of the graph or, without one, a constant."""
        tensor = Tensor.__new__(Tensor)
        tensor.data = array
        tensor.edge = edge
        tensor.requires_grad = edge is not None
        tensor.grad = tensor.name = None
        return tensor

    constant = wrap

    def zeros_like(self) -> Tensor:
        """Zeros of the same shape, dtype and device."""
        return ops.zeros_like(self)  # type: ignore[no-any-return]

    # ---------------------------------------------------------------- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of every axis."""
        return self.data.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(self.data.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""
        return self.data.dtype  # type: ignore[no-any-return]

    @property
    def device(self) -> Device:
        """Where the elements are."""
        return device_of(self.data)

    @property
    def is_leaf(self) -> bool:
        """Whether it is no recorded operation's result."""
        return self.edge is None

    @property
    def node(self) -> Any:
        """The recorded operation that made it; None for a leaf."""
        return node_of(self.edge)

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return ops

    def __len__(self) -> int:
        if self.ndim == 0:
            raise DtypeError("len", got="a Tensor without axes", wanted="at least one axis")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        kind = type(self).__name__
        body = np.array2string(self.numpy(), separator=", ", prefix=kind + "(", threshold=100, precision=4)
        said = [body, str(self.dtype)]
        if self.device.type != "cpu":
            said.append(str(self.device))
        if self.name:
            said.append(f"name={self.name!r}")
        if self.node is not None:
            said.append(f"from {self.node.op.name}")
        elif self.requires_grad and kind == "Tensor":
            said.append("requires_grad=True")
        elif not self.requires_grad and kind == "Parameter":
            said.append("requires_grad=False")
        return f"{kind}({', '.join(said)})"

    # ---------------------------------------------------------------- out of minigrad, and into it

    def numpy(self) -> np.ndarray:
        """The elements as a NumPy array: shared if they are on the CPU, else copied there. Never refuses."""
        return to_numpy(self.data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        return np.array(array, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        name = ufunc.__name__
        if method == "__call__" and name in _OPERATORS and not kwargs:
            return _OPERATORS[name](*args)
        raise TypeError(f"numpy.{name} does not take Tensors: {_instead(name)}")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy's functions see arrays. One that computes would lose the way back to a Tensor with a gradient."""
        live: list[Tensor] = []
        args, kwargs = _as_arrays(args, live), _as_arrays(kwargs, live)
        name = function.__name__
        if name not in _ASKING and any(t.requires_grad for t in live):
            raise TypeError(f"numpy.{name} would lose the gradient of a Tensor: {_instead(name)}")
        return function(*args, **kwargs)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.data.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.data.__dlpack_device__()  # type: ignore[no-any-return]

    def item(self) -> float | int | bool:
        """The only element, as a Python number."""
        if self.size != 1:
            raise ShapeError("item", got=f"shape {self.shape}", wanted="exactly one element")
        return number(self.data)  # type: ignore[no-any-return]

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return self.numpy().tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        value = self.item()
        if not isinstance(value, int):
            raise DtypeError("index", got=f"a Tensor of dtype {self.dtype}", wanted="an integer")
        return value

    def __bool__(self) -> bool:
        return bool(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("Tensors are values, t[i] = v would change one: build a new Tensor with minigrad.where or "
                        "minigrad.concat, or fill a leaf with assign()")

    def __copy__(self) -> Tensor:
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self.edge is not None:
            raise GraphError("deepcopy", got=f"a result of {self.node.op.name}", wanted="a leaf",
                             hint="detach() it first")
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.data, new.edge, new.name = copied(self.data, "K"), None, self.name
        new.requires_grad = self.requires_grad
        new.grad = copy.deepcopy(self.grad, memo)
        self._copy_more(new)
        return new

    def _copy_more(self, new: Any) -> None:
        """Hook for subclasses with more slots."""

    def __reduce__(self) -> Any:
        if self.edge is not None:
            raise GraphError("pickle", got=f"a result of {self.node.op.name}", wanted="a leaf",
                             hint="detach() it first")
        return _rebuild, (type(self), self.numpy(), str(self.device), self.requires_grad, self.name)

    # ---------------------------------------------------------------- the graph

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set whether gradients with respect to this leaf are wanted; returns it.

        Raises
        ------
        DtypeError
            The elements are not floating point.
        GraphError
            It is the result of a recorded operation, whose gradient cannot be switched off: use `detach`.
        """
        if requires_grad and not is_floating(self.dtype):
            raise DtypeError("requires_grad", got=f"a Tensor of dtype {self.dtype}", wanted="floating point")
        if self.edge is not None and not requires_grad:
            raise GraphError("requires_grad_", got=f"a result of {self.node.op.name}", wanted="a leaf",
                             hint="detach() gives it without its history")
        self.requires_grad = bool(requires_grad)
        return self

    def detach(self) -> Tensor:
        """The same elements, in the same memory, without history."""
        return Tensor.wrap(self.data)

    def backward(self, gradient: Any = None, create_graph: bool = False, retain_graph: bool | None = None) -> None:
        """Add the gradient of this Tensor to the `.grad` of every leaf it was computed from.

        Parameters
        ----------
        gradient : Tensor or array, optional
            The gradient to start with, of this Tensor's shape; 1 for a scalar.
        create_graph : bool
            Record the backward pass, so that gradients can be differentiated again.
        retain_graph : bool, optional
            Keep what the graph has saved, for another backward. The default is `create_graph`.

        Notes
        -----
        A call that fails changes no `.grad`, but without `retain_graph` has freed the part of the graph that it came
        through: compute the output anew.
        """
        engine.backward(self, gradient, create_graph, retain_graph)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call `hook` with the total gradient of this Tensor, once per backward; what it returns replaces it.

        Returns
        -------
        callable
            Removes the hook.
        """
        if not self.requires_grad:
            raise GraphError("register_hook", got="a Tensor that does not require a gradient", wanted="one that does")
        return hooks.add(self.edge if self.edge is not None else self, hook)

    def retain_grad(self) -> None:
        """Let `backward` fill the `.grad` of this result, as it does for leaves.

        Raises
        ------
        GraphError
            It does not require a gradient.
        """
        if not self.requires_grad:
            raise GraphError("retain_grad", got="a Tensor that does not require a gradient", wanted="one that does")
        if self.edge is not None and not any(isinstance(h, Retained) and h.of() is self for h in hooks.at(self.edge)):
            hooks.add(self.edge, Retained(self))

    # ---------------------------------------------------------------- the one way to write, and moving

    def assign(self, value: Any) -> Tensor:
        """Write new elements into this leaf, in place; returns it. Graphs that need the old ones refuse from then on.

        Parameters
        ----------
        value : Tensor, array or number
            Must broadcast to this shape; cast to this dtype.

        Raises
        ------
        GraphError
            It is the result of a recorded operation, or its memory is read-only.
        ShapeError
            The value does not broadcast to this shape.
        DtypeError
            The value is neither bool, nor integers, nor floating point.
        """
        if self.edge is not None:
            raise GraphError("assign", got=f"a result of {self.node.op.name}", wanted="a leaf",
                             hint="detach() it first, or compute a new Tensor")
        array = as_array(value.data if isinstance(value, Tensor) else value)
        if not is_number(array.dtype):
            raise DtypeError("assign", got=f"elements of dtype {array.dtype}",
                             wanted="bool, integers or floating point")
        if isinstance(self.data, np.ndarray) and not self.data.flags.writeable:
            raise GraphError("assign", got="read-only memory", wanted="an array that can be written to")
        if not broadcasts_to(array.shape, self.shape):
            raise ShapeError("assign", got=f"shape {tuple(array.shape)}", wanted=f"one that broadcasts to {self.shape}")
        there = transfer(array, self.device)
        self.data[...] = there if isinstance(there, np.ndarray) else astype(there, self.dtype)  # NumPy casts in passing
        wrote(self.data)
        return self

    def to(self, device: Any = None, dtype: Any = None) -> Tensor:
        """On another device, in another dtype, or both; itself if nothing changes. Differentiable.

        The first argument may also be a dtype, as in ``t.to("float64")``.
        """
        if device is not None and dtype is None and not _names_device(device):
            device, dtype = None, device
        try:
            dtype = dtype if dtype is None else np.dtype(dtype)
        except TypeError as error:
            raise ArgumentError("to", got=repr(dtype),
                                wanted="a device such as 'cpu' or 'cuda:0', or a dtype") from error
        moved: Any = self
        if device is not None:
            moved = ops.move(moved, self.device, as_device(device))
        return moved if dtype is None else ops.cast(moved, dtype)  # type: ignore[no-any-return]

    def cpu(self) -> Tensor:
        """On the CPU."""
        return self.to("cpu")

    def cuda(self) -> Tensor:
        """On the first GPU."""
        return self.to("cuda")


Tensor.result = Tensor


def _names_device(spec: Any) -> bool:
    return isinstance(spec, Device) or (isinstance(spec, str) and spec.split(":")[0] in ("cpu", "cuda", "auto"))


def _rebuild(kind: type[Tensor], array: np.ndarray, device: str, requires_grad: bool, name: str | None,
             more: dict[str, Any] | None = None) -> Tensor:
    """Unpickle a Tensor; `more` holds the slots that a subclass adds."""
    tensor = kind.__new__(kind)
    Tensor.__init__(tensor, array, requires_grad, device=device, name=name)
    for slot, content in (more or {}).items():
        setattr(tensor, slot, content)
    return tensor


def _instead(name: str) -> str:
    """What to use in place of NumPy's function of that name."""
    ours = _OURS.get(name, name)
    return f"minigrad.{ours} does it" if hasattr(ops, ours) else "take .detach().numpy() first"


def _as_arrays(x: Any, found: list[Tensor]) -> Any:
    """Arguments of a NumPy function with arrays in place of Tensors, which are added to `found`."""
    if isinstance(x, Tensor):
        found.append(x)
        return x.numpy()
    if isinstance(x, dict):
        return {key: _as_arrays(part, found) for key, part in x.items()}
    return type(x)([_as_arrays(part, found) for part in x]) if type(x) in (list, tuple) else x


class Parameter(Tensor):
    """A Tensor that a layer trains: a Module registers it under the name of the attribute it is assigned to."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True, dtype: Any = None, device: str | Device | None = None,
                 name: str | None = None) -> None:
        super().__init__(data, requires_grad, dtype, device, name)


class Buffer(Tensor):
    """A Tensor that a layer holds without training it, such as running statistics.

    Parameters
    ----------
    persistent : bool
        Whether `state_dict` includes it.
    """

    __slots__ = ("persistent",)

    def __init__(self, data: Any, persistent: bool = True, dtype: Any = None,
                 device: str | Device | None = None) -> None:
        super().__init__(data, False, dtype, device)
        self.persistent = persistent

    def _copy_more(self, new: Any) -> None:
        new.persistent = self.persistent

    def __reduce__(self) -> Any:
        rebuild, state = super().__reduce__()
        return rebuild, (*state, {"persistent": self.persistent})
