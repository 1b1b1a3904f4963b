"""Module: what every layer and model is. It registers what is assigned to it, and calls `forward` inside its scope."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.arraylike import refuse_plain
from minigrad.backend import Device, as_device, astype, transfer
from minigrad.errors import ArgumentError, DtypeError, StateError
from minigrad.layers.state import LoadedKeys, load_state, named_state
from minigrad.modes import Mode, current, enter, leave, no_grad
from minigrad.tensor import Buffer, Parameter, Tensor

if TYPE_CHECKING:
    from typing_extensions import Self  # in the standard library from Python 3.11 on

__all__ = ["Module"]

Hook = Callable[..., Any]

# The kinds of what is registered. A buffer that was set to None has no object left to say whether it is persistent,
# so its kind remembers it.
PARAMETER, BUFFER, TRANSIENT, MODULE = "parameter", "buffer", "transient buffer", "module"


class Module:
    """Base of layers and models: a function with parameters, as `torch.nn.Module`.

    Parameters, buffers and modules that are assigned to attributes are registered under the attribute's name, in the
    order of assignment. `forward` says what the module computes; calling the module runs it, with the hooks, in the
    scope that error messages and graphs show as the path of the layer.

    Attributes
    ----------
    training : bool
        Whether it is in training mode (see `train`); True at first.

    Notes
    -----
    The registry holds names alone, the objects are ordinary attributes: reading ``self.weight`` costs what reading an
    attribute of any object costs.

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad import Tensor, functional as F
    >>> from minigrad.layers import BatchNorm1d, Linear, Module
    >>> class Net(Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.first = Linear(4, 8)
    ...         self.norm = BatchNorm1d(8)
    ...         self.last = Linear(8, 2)
    ...     def forward(self, x):
    ...         return self.last(F.relu(self.norm(self.first(x))))
    >>> net = Net()
    >>> net(Tensor(np.ones((3, 4), np.float32))).shape
    (3, 2)
    >>> [name for name, _ in net.named_parameters()]
    ['first.weight', 'first.bias', 'norm.weight', 'norm.bias', 'last.weight', 'last.bias']
    """

    training: bool
    _kinds: dict[str, str]
    _name: str
    _hooks: dict[object, Hook]
    _pre_hooks: dict[object, Hook]

    def __init__(self) -> None:
        self.__dict__.update(training=True, _kinds={}, _name="", _hooks={}, _pre_hooks={})

    # ---------------------------------------------------------------- calling

    def _no_forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no method forward(), which says what it computes")

    #: What the module computes: to be written by every subclass.
    forward: Callable[..., Any] = _no_forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        mode = current()
        scope = (mode.scope, self._name, self.__class__.__name__)
        token = enter(Mode(mode.recording, scope, mode.observers, mode.recomputing, mode.kernels, mode.statistics,
                           mode.autocast, mode.graph))
        try:
            if self._hooks or self._pre_hooks:
                return self._call_with_hooks(args, kwargs)
            return self.forward(*args, **kwargs)
        except AttributeError as error:
            refuse_plain("forward", error, (*args, *kwargs.values()))
            raise
        finally:
            leave(token)

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for hook in list(self._pre_hooks.values()):
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        output = self.forward(*args, **kwargs)
        for hook in list(self._hooks.values()):
            changed = hook(self, args, output)
            if changed is not None:
                output = changed
        return output

    def register_forward_pre_hook(self, hook: Callable[[Any, tuple[Any, ...]], Any]) -> Callable[[], None]:
        """Call ``hook(module, args)`` before `forward`; what it returns, unless None, replaces the arguments.

        Returns
        -------
        callable
            Removes the hook.
        """
        return _add(self._pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[[Any, tuple[Any, ...], Any], Any]) -> Callable[[], None]:
        """Call ``hook(module, args, output)`` after `forward`; what it returns, unless None, replaces the output.

        Returns
        -------
        callable
            Removes the hook.

        Examples
        --------
        >>> from minigrad import Tensor
        >>> from minigrad.layers import ReLU
        >>> layer = ReLU()
        >>> remove = layer.register_forward_hook(lambda module, args, output: print(module, output.shape))
        >>> y = layer(Tensor([1.0, -1.0]))
        ReLU() (2,)
        >>> remove()
        """
        return _add(self._hooks, hook)

    # ---------------------------------------------------------------- attributes

    def __setattr__(self, name: str, value: Any) -> None:
        kinds = self.__dict__.get("_kinds")
        if isinstance(value, (Parameter, Buffer, Module)):
            self._register(name, _kind(value), value)
        elif kinds is not None and name in kinds:
            self._replace(name, kinds[name], value)
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._kinds.pop(name, None)

    def __getattr__(self, name: str) -> Any:
        # Python comes here only after the ordinary search has failed.
        kind = type(self)
        if hasattr(kind, name):
            return object.__getattribute__(self, name)  # a property that failed: its own error says why
        text = f"{kind.__name__!r} object has no attribute {name!r}"
        if "_kinds" not in self.__dict__:
            text += ": super().__init__() has not been called"
        elif not name.startswith("__"):
            close = difflib.get_close_matches(name, [n for n in dir(self) if not n.startswith("_")], n=3)
            text += f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise AttributeError(text)

    def _register(self, name: str, kind: str, value: Any) -> None:
        """Enter `value` under `name`, in place of whatever was there."""
        where = f"{type(self).__name__}.{name}"
        if "_kinds" not in self.__dict__:
            raise StateError(where, got=f"a {kind} before Module.__init__", wanted="super().__init__() called first")
        if not name or "." in name:
            raise ArgumentError(where, got=f"the name {name!r}", wanted="one that is not empty and has no dot")
        if getattr(type(self), name, None) is not None or name in Module.__annotations__:
            raise ArgumentError(where, got=f"a {kind}", wanted=f"another name: {name!r} belongs to the class")
        if kind == MODULE and value is not None:
            self._refuse_cycle(where, value)
        if self._kinds.get(name) != kind:
            self._kinds.pop(name, None)  # so that it comes last, as what is new does
        self._kinds[name] = kind
        self.__dict__[name] = value
        if kind == MODULE and value is not None:
            value.__dict__["_name"] = name

    def _refuse_cycle(self, where: str, module: Module) -> None:
        """Refuse a child that this module is, or is inside of."""
        if any(part is self for part in module.modules()):
            raise ArgumentError(where, got="a module that contains this one", wanted="a tree",
                                hint="A reference back to a parent can be kept in a tuple or list")

    def _replace(self, name: str, kind: str, value: Any) -> None:
        """Assign to a registered name what is neither Parameter, Buffer nor Module."""
        if value is not None and kind in (BUFFER, TRANSIENT) and isinstance(value, Tensor):
            value = Buffer(value, persistent=kind == BUFFER)
        elif value is not None:
            wanted = {PARAMETER: "a Parameter or None", MODULE: "a Module or None"}.get(kind, "a Tensor or None")
            got = f"a {type(value).__name__} for a {kind}"
            raise DtypeError(f"{type(self).__name__}.{name}", got=got, wanted=wanted)
        self.__dict__[name] = value

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under a name; None holds the place of one that is absent."""
        self._expect(name, param, Parameter)
        self._register(name, PARAMETER, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a buffer under a name: state that is not trained, such as running statistics.

        Parameters
        ----------
        tensor : Tensor or None
            Its memory is shared, its history is not kept.
        persistent : bool
            Whether `state_dict` includes it.
        """
        self._expect(name, tensor, Tensor)
        if isinstance(tensor, Buffer):
            tensor.persistent = persistent
        elif tensor is not None:
            tensor = Buffer(tensor, persistent)
        self._register(name, BUFFER if persistent else TRANSIENT, tensor)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child under a name that need not be an identifier, such as ``"0"``."""
        self._expect(name, module, Module)
        self._register(name, MODULE, module)

    def _expect(self, name: str, value: Any, kind: type) -> None:
        if value is not None and not isinstance(value, kind):
            raise DtypeError(f"{type(self).__name__}.{name}", got=f"a {type(value).__name__}",
                             wanted=f"a {kind.__name__} or None")

    # ---------------------------------------------------------------- what is registered

    def _own(self, *kinds: str) -> list[tuple[str, Any]]:
        """Name and object of what is registered here, of some kinds; what is None is left out."""
        held = self.__dict__
        return [(name, held[name]) for name, kind in self._kinds.items() if kind in kinds and held[name] is not None]

    def _own_state(self) -> list[tuple[str, Tensor]]:
        """Own parameters, then own persistent buffers."""
        buffers = [(name, b) for name, b in self._own(BUFFER, TRANSIENT) if b.persistent]
        return self._own(PARAMETER) + buffers

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Name and module of the direct children, each module once."""
        return _once(self._own(MODULE))

    def children(self) -> Iterator[Module]:
        """The direct children, each once."""
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """Path and module of the module itself (`prefix`) and all below it, parents before their children.

        Parameters
        ----------
        remove_duplicate : bool
            Give a module that is reachable in several ways once, under the first of its paths.
        """
        found = self._walk(prefix)
        return _once(found) if remove_duplicate else iter(found)

    def _walk(self, prefix: str) -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, child in self._own(MODULE):
            yield from child._walk(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """The module itself and all below it, each once."""
        return (module for _, module in self.named_modules())

    def get_submodule(self, target: str) -> Module:
        """The module at a path such as ``"features.1"``; the empty path is this module."""
        module = self
        for name in target.split(".") if target else ():
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"{name!r} in {target!r} is a {type(module).__name__}, not a module")
        return module

    def _named(self, kinds: tuple[str, ...], prefix: str, recurse: bool, once: bool) -> Iterator[tuple[str, Any]]:
        parts = self.named_modules(prefix, remove_duplicate=once) if recurse else [(prefix, self)]
        found = ((f"{path}.{name}" if path else name, t) for path, part in parts for name, t in part._own(*kinds))
        return _once(found) if once else found

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Full name and parameter, here and (with `recurse`) below; shared ones once, under their first name."""
        return self._named((PARAMETER,), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, here and (with `recurse`) below, each once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True,
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Buffer]]:
        """Full name and buffer, here and (with `recurse`) below; shared ones once, under their first name."""
        return self._named((BUFFER, TRANSIENT), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        """The buffers, here and (with `recurse`) below, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    # ---------------------------------------------------------------- all at once

    def train(self, mode: bool = True) -> Self:
        """Set training mode here and below: dropout drops, BatchNorm uses the statistics of the batch; returns self."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Set evaluation mode here and below: ``train(False)``. Gradients are recorded as before; see `no_grad`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze all parameters here and below, or train them again; returns self.

        A frozen BatchNorm still updates its running statistics in training mode: `eval` stops that.
        """
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters here and below, or with ``set_to_none=False`` make them zeros."""
        graph = current().graph
        held = self.__dict__
        for name, kind in self._kinds.items():
            part = held[name]
            if part is None:
                continue
            if kind == MODULE:  # one that is shared comes several times, which does no harm
                part.zero_grad(set_to_none)
            elif kind == PARAMETER:
                if graph is not None:
                    graph.cleared(part)
                if part.grad is not None:
                    part.grad = None if set_to_none else part.grad.detach().zeros_like()

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` with every module, children before their parents; returns self."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def to(self, device: str | Device | None = None, dtype: Any = None) -> Self:
        """Move parameters, their gradients and buffers, in place, to a device, to a dtype, or both; returns self.

        The Parameter objects stay the same, so optimizers that hold them stay valid. The first argument may also be a
        dtype, as in ``model.to("float64")``.

        Parameters
        ----------
        device : str or Device, optional
        dtype : floating point dtype, optional
            Integers and bools keep theirs, and running statistics stay at least float32.

        Raises
        ------
        DtypeError
            The dtype is not floating point.
        DeviceError
            The device is unknown or absent.
        """
        if device is not None and dtype is None and _is_dtype(device):
            device, dtype = None, device
        wanted = None if dtype is None else np.dtype(dtype)
        if wanted is not None and not _floating(wanted):
            raise DtypeError(f"{type(self).__name__}.to", got=f"dtype {wanted}", wanted="a floating point dtype")
        place = None if device is None else as_device(device)
        for module in self.modules():
            for name, tensor in module._own(PARAMETER, BUFFER, TRANSIENT):
                kept = wanted is None or not _floating(tensor.dtype)
                new = tensor.dtype if kept else module._dtype_for(name, wanted)
                with no_grad():
                    tensor.grad = None if tensor.grad is None else tensor.grad.to(place, new)
                tensor.data = transfer(astype(tensor.data, new), place or tensor.device)
        return self

    def cpu(self) -> Self:
        """Move everything to the CPU; returns self."""
        return self.to("cpu")

    def cuda(self) -> Self:
        """Move everything to the first GPU; returns self."""
        return self.to("cuda")

    def _dtype_for(self, name: str, dtype: Any) -> Any:
        """The dtype that the own tensor `name` takes when `to` asks for `dtype`; some layers need a wider one."""
        return dtype

    # ---------------------------------------------------------------- state

    @property
    def optional_state(self) -> tuple[str, ...]:
        """Own names that `load_state_dict` does without: what other versions of a layer did not write."""
        return ()

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Parameters and persistent buffers by their full names, as Tensors that share their memory.

        Notes
        -----
        Parameters are trained in place, so what is returned follows them. Buffers are given new arrays instead: theirs
        stay as they are now. Copy what shall outlive the next step.

        Examples
        --------
        >>> from minigrad.layers import BatchNorm1d
        >>> list(BatchNorm1d(3).state_dict())
        ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
        """
        return {prefix + name: tensor.detach() for name, tensor in named_state(self)}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> LoadedKeys:
        """Take over the values that `state_dict` gave, cast to the dtypes and moved to the devices here.

        Parameters are written in place; graphs recorded earlier that need the old values will refuse to differentiate.
        Buffers are given new arrays; earlier graphs keep the old ones.

        Parameters
        ----------
        state : mapping from name to Tensor or array
        strict : bool
            Refuse missing and unexpected names. Without it they are returned.

        Returns
        -------
        LoadedKeys
            ``(missing_keys, unexpected_keys)``.

        Raises
        ------
        StateError
            Names everything that is missing, unexpected, or of another shape or kind of number. Nothing was changed.
        """
        return load_state(self, state, strict)

    # ---------------------------------------------------------------- text

    def extra_repr(self) -> str:
        """Hyper-parameters, for `repr`."""
        return ""

    def _repr_children(self) -> Iterator[tuple[str, str]]:
        """Label and text of each line below this one."""
        return ((name, repr(self.__dict__[name])) for name, kind in self._kinds.items() if kind == MODULE)

    def __repr__(self) -> str:
        children = [f"({name}): {text}" for name, text in self._repr_children()]
        extra = self.extra_repr()
        if not children:
            return f"{type(self).__name__}({extra})"
        lines = "\n".join(([extra] if extra else []) + children).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {lines}\n)"


def _kind(value: Parameter | Buffer | Module) -> str:
    if isinstance(value, Module):
        return MODULE
    return PARAMETER if isinstance(value, Parameter) else BUFFER if value.persistent else TRANSIENT


def _add(table: dict[object, Hook], hook: Hook) -> Callable[[], None]:
    """Enter a hook under a key that no other will have, in this process or after unpickling in another."""
    key = object()
    table[key] = hook

    def remove() -> None:
        table.pop(key, None)

    return remove


def _once(named: Any) -> Iterator[tuple[str, Any]]:
    """The pairs whose object has not come before. Objects are told apart by identity: Tensors compare element-wise."""
    seen = set()
    for name, item in named:
        if id(item) not in seen:
            seen.add(id(item))
            yield name, item


def _floating(dtype: Any) -> bool:
    return bool(dtype.kind == "f" or dtype.name == "bfloat16")


def _is_dtype(spec: Any) -> bool:
    try:
        np.dtype(spec)
    except TypeError:
        return False
    return True
