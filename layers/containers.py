"""Modules made of other modules, and the two that only pass on: Flatten and Identity."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from minigrad import ops
from minigrad.backend import device_of, is_array
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.kernels import served
from minigrad.layers.activation import ReLU, Sigmoid
from minigrad.layers.batch_norm import BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, joins
from minigrad.layers.linear import Linear
from minigrad.layers.module import MODULE, Module
from minigrad.modes import current
from minigrad.op import Op, value
from minigrad.ops.linear_batch_norm import LinearBatchNorm
from minigrad.ops.normalization_texts import ActivatedBatchNorm, ResidualBatchNorm

if TYPE_CHECKING:
    from typing_extensions import Self  # in the standard library from Python 3.11 on

__all__ = ["Flatten", "Identity", "ModuleList", "Sequential"]

C = TypeVar("C", bound="_Numbered")


class _Numbered(Module):
    """Children in a row, under the names "0", "1", …"""

    def _names(self) -> list[str]:
        return [name for name, kind in self._kinds.items() if kind == MODULE]

    def _place(self, index: Any) -> int:
        """An index counted from the front."""
        place, n = operator.index(index), len(self)
        if not -n <= place < n:
            raise IndexError(f"index {place} in a {type(self).__name__} of {n} modules")
        return place % n

    def _renumber(self, modules: Iterable[Module]) -> None:
        """Hold exactly these, named by their places."""
        modules = list(modules)
        self._check(modules)
        for name in self._names():
            delattr(self, name)
        for place, module in enumerate(modules):
            self.add_module(str(place), module)

    def _check(self, modules: Iterable[Any], start: int = 0) -> None:
        """Refuse what cannot be held from place `start` on, before anything changes."""
        for place, module in enumerate(modules, start):
            where = f"{type(self).__name__}[{place}]"
            if not isinstance(module, Module):
                raise DtypeError(where, got=f"a {type(module).__name__}", wanted="a Module")
            self._refuse_cycle(where, module)

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[Any]:
        return iter([self.__dict__[name] for name in self._names()])

    def __contains__(self, module: object) -> bool:
        return any(child is module for child in self)

    @overload
    def __getitem__(self: C, index: slice) -> C: ...
    @overload
    def __getitem__(self, index: int) -> Any: ...
    def __getitem__(self, index: int | slice) -> Any:
        names = self._names()
        if not isinstance(index, slice):
            return self.__dict__[names[self._place(index)]]
        part = type(self)()
        for place, name in enumerate(names[index]):
            # Entered directly: the layer goes on being called by the name that it has here.
            kept = self._name_in_part(place, name)
            part._kinds[kept] = MODULE
            part.__dict__[kept] = self.__dict__[name]
        return part

    def _name_in_part(self, place: int, name: str) -> str:
        """The name, in a slice, of the child at a place there that is called `name` here."""
        return str(place)

    def __setitem__(self, index: int, module: Module) -> None:
        place = self._place(index)
        self._check([module], place)
        self.add_module(self._names()[place], module)

    def __delitem__(self, index: int | slice) -> None:
        kept = list(self)
        del kept[index if isinstance(index, slice) else self._place(index)]
        self._renumber(kept)

    def append(self, module: Module) -> Self:
        """Add a module at the end; returns self."""
        return self.extend([module])

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end, all or, if one is refused, none; returns self."""
        modules = list(modules)
        self._check(modules, len(self))
        for module in modules:
            # Named by its place; a slice or a mapping may have given that name to another module.
            place = len(self)
            while str(place) in self._kinds:
                place += 1
            self.add_module(str(place), module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Put a module before the one at `index`; those behind it get new names. Returns self."""
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)
        return self


class Sequential(_Numbered):
    """Call modules one after the other, each with what the one before returned.

    Parameters
    ----------
    *modules : Module, or one mapping from names to Modules
        Without names they are called "0", "1", …

    Examples
    --------
    >>> from minigrad.layers import Linear, ReLU, Sequential
    >>> net = Sequential(Linear(4, 8), ReLU(), Linear(8, 2))
    >>> net[-1]
    Linear(in_features=8, out_features=2, bias=True)
    >>> net[:2]
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): ReLU()
    )
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            self._check(modules[0].values())
            for name, module in modules[0].items():
                self.add_module(name, module)
        else:
            self.extend(modules)

    def forward(self, x: Any, *, residual: Any = None, activation: str | None = None) -> Any:
        """Pass `x` through all modules, and what they give, plus `residual`, through an activation, as far as given.

        In training, BatchNorm, the sum behind it and the activation behind that, or Linear, BatchNorm and the
        activation behind it, run as one operation where a kernel for it serves, and nobody looks on: neither hooks nor
        observers.

        Parameters
        ----------
        x : what the first module takes
        residual : of the shape that the last module gives, optional
            For residual blocks: ``relu(body(x) + x)`` is ``body(x, residual=x, activation="relu")``.
        activation : "relu" or "sigmoid", optional

        Raises
        ------
        ArgumentError
            The activation is another.
        ShapeError
            The residual has another shape.
        """
        if activation is not None and activation not in _FUNCTIONS:
            raise ArgumentError("Sequential", got=f"activation={activation!r}",
                                wanted=f"one of {', '.join(_FUNCTIONS)}")
        modules = list(self)
        fusing = bool(modules) and _may_fuse(x, ActivatedBatchNorm)
        place = 0
        while place < len(modules):
            module = modules[place]
            place += 1
            if place == len(modules) and residual is not None and module.__class__ in _BATCH_NORMS:
                _refuse_residual(residual, x)  # before the running statistics move
                if activation and _absorbs(module) and _may_fuse(x, ResidualBatchNorm):
                    return module(x, activation=activation, residual=residual)
            joined = _joined(x, modules[place - 1 : place + 2]) if fusing else None
            if joined is None:
                x = module(x)
            else:
                norm, following, linear = joined
                x = norm(x, activation=following, linear=linear)
                place += 1 if linear is None else 2
        return _followed(x, residual, activation)

    def _name_in_part(self, place: int, name: str) -> str:
        return name


_BATCH_NORMS = frozenset((BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d))
_ACTIVATIONS = {ReLU: "relu", Sigmoid: "sigmoid"}
_FUNCTIONS = {"relu": ops.relu, "sigmoid": ops.sigmoid}


def _followed(y: Any, residual: Any, activation: str | None) -> Any:
    """a(y + residual), as far as the two are given."""
    if residual is not None:
        _refuse_residual(residual, y)
        y = y + residual
    return y if activation is None else _FUNCTIONS[activation](y)


def _refuse_residual(residual: Any, y: Any) -> None:
    """Refuse a residual of another shape than what the last module gives."""
    if tuple(residual.shape) != tuple(y.shape):
        raise ShapeError("Sequential", got=f"residual of shape {tuple(residual.shape)}",
                         wanted=f"{tuple(y.shape)}, the shape of what the last module gives")


def _may_fuse(x: Any, op: type[Op]) -> bool:
    """Whether nobody looks on, and a kernel serves an operation where x is."""
    x = value(x)
    return is_array(x) and not current().observers and served(op, "forward", device_of(x).type)


def _absorbs(module: Module) -> bool:
    """Whether a module is a BatchNorm in training that can apply what follows it: without hooks."""
    return (module.__class__ in _BATCH_NORMS and not module.uses_running_stats and not module._hooks
            and not module._pre_hooks)


def _joined(x: Any, row: list[Any]) -> tuple[Any, str, Linear | None] | None:
    """The BatchNorm, activation and perhaps Linear before it that `row` begins with and one operation computes."""
    linear = row[0] if row[0].__class__ is Linear else None
    pair = row[:2] if linear is None else row[1:]
    if len(pair) < 2 or pair[1]._hooks or pair[1]._pre_hooks or not _absorbs(pair[0]):
        return None
    norm, activation = pair[0], _ACTIVATIONS.get(pair[1].__class__)
    if activation is None or (linear is not None and not _precedes(linear, norm, value(x))):
        return None
    return norm, activation, linear


def _precedes(linear: Linear, norm: Any, x: Any) -> bool:
    """Whether a Linear without hooks takes x and gives what `norm` takes, all in one dtype."""
    weight, bias = linear.weight, linear.bias
    return (not linear._hooks and not linear._pre_hooks and joins(linear) and x.ndim == 2 and x.dtype.kind == "f"
            and weight is not None and weight.shape == (norm.num_features, x.shape[1]) and weight.dtype == x.dtype
            and (bias is None or (bias.shape == (norm.num_features,) and bias.dtype == x.dtype))
            and _may_fuse(x, LinearBatchNorm))


class ModuleList(_Numbered):
    """A list of modules that are registered, for a `forward` that calls them as it likes.

    Parameters
    ----------
    modules : iterable of Module, optional
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def _repr_children(self) -> Iterator[tuple[str, str]]:
        """Equal neighbours on one line, as ``(0-3): 4 x ReLU()``."""
        runs: list[tuple[list[str], str]] = []
        for name, text in super()._repr_children():
            if runs and runs[-1][1] == text:
                runs[-1][0].append(name)
            else:
                runs.append(([name], text))
        for names, text in runs:
            n = len(names)
            yield (names[0], text) if n == 1 else (f"{names[0]}-{names[-1]}", f"{n} x {text}")


class Flatten(Module):
    """Join the axes from `start_dim` to `end_dim` into one; by default all but the batch's.

    Parameters
    ----------
    start_dim, end_dim : int
        Both included; negative ones count from the end.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad.layers import Flatten
    >>> Flatten()(minigrad.ones(2, 3, 4)).shape
    (2, 12)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        """Join axes of `x`."""
        return ops.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Identity(Module):
    """Returns its argument: a place for a layer that is absent.

    Parameters
    ----------
    *args, **kwargs
        Those of the layer whose place it takes; without effect.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        """`x`."""
        return x
