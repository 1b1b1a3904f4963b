"""The registry of faster versions of operations' texts. Operations never mention it; the engine calls whatever is here.

An overlay serves calls whose arguments are all arrays of its device, takes and returns exactly what the text does, and
keeps nothing of its own. Where it declines, the next one is asked, and at last the text runs. Shapes that the text
notes on the operation for its backward are noted by the kernel too. Tiers: 0 is the text alone, 1 adds blocked
NumPy, 2 adds compiled kernels, 3 other libraries'. The tier of a process comes from ``MINIGRAD_KERNELS`` (``text``,
``numpy``, ``compiled`` or ``all``, the default); `disabled` and `tier` change it for a block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from minigrad.backend import Device, device_of, is_array, ndarray
from minigrad.determinism import atomics_refused
from minigrad.errors import ArgumentError
from minigrad.modes import KERNEL_TIERS, current, switch
from minigrad.op import Op

__all__ = ["Kernel", "accelerates", "disabled", "kernels_of", "served", "tier"]

F = TypeVar("F", bound=Callable[..., Any])


class Kernel(NamedTuple):
    """One overlay: what it runs, on which kind of device, and from which tier on."""

    run: Callable[..., Any]
    device: str
    tier: int


class _Phase:
    """The kernels of one phase of an operation.

    all : newest first, as they are asked
    on_cpu : by level of tiers, what those run that serve NumPy arrays there
    """

    __slots__ = ("all", "on_cpu")

    def __init__(self) -> None:
        self.all: list[Kernel] = []
        self.on_cpu: list[tuple[Callable[..., Any], ...]] = [()] * len(KERNEL_TIERS)

    def add(self, new: Kernel) -> None:
        """Have a kernel asked before all others."""
        self.all.insert(0, new)
        self.on_cpu[:] = [tuple([kernel.run for kernel in self.all if kernel.device == "cpu" and kernel.tier <= level])
                          for level in KERNEL_TIERS.values()]


_table: dict[tuple[type[Op], str], _Phase] = {}


def accelerates(op: type[Op], phase: str, device: str = "cpu", tier: str = "compiled",
                when: Callable[..., bool] | None = None, atomics: bool = False) -> Callable[[F], F]:
    """Overlay one phase of one operation: ``@accelerates(BatchNorm, "forward", device="cuda")``.

    Parameters
    ----------
    op : class of Op
    phase : "forward" or "backward"
        The kernel takes ``(op, *inputs)`` or ``(op, saved, needs, *output_gradients)``, as the text does. It declines a
        call by returning NotImplemented. Of several kernels the one registered last is asked first.
    device : "cpu" or "cuda"
    tier : "numpy", "compiled" or "all"
        From which tier on it serves.
    when : callable, optional
        Given the kernel's arguments, whether it is asked at all: for conditions that several kernels share.
    atomics : bool
        Whether it adds by atomics, in an order that is another in every run: it then declines in deterministic mode.
    """
    known = ("forward", "backward"), ("cpu", "cuda"), ("numpy", "compiled", "all")
    if any(given not in among for given, among in zip((phase, device, tier), known)):
        raise ArgumentError("accelerates", got=f"phase={phase!r}, device={device!r}, tier={tier!r}",
                            wanted="'forward' or 'backward', 'cpu' or 'cuda', 'numpy', 'compiled' or 'all'")

    def register(kernel: F) -> F:
        kernels = _table.get((op, phase))
        if kernels is None:
            kernels = _table[op, phase] = _Phase()
            setattr(op, f"run_{phase}", _dispatcher(getattr(op, phase), kernels, 0 if phase == "forward" else 2))
        asked: Callable[..., Any] = kernel if when is None else _where(when, kernel)
        if atomics:
            asked = _where(lambda *args: not atomics_refused(), asked)
        kernels.add(Kernel(asked, device, KERNEL_TIERS[tier]))
        return kernel

    return register


def _where(when: Callable[..., bool], kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel, declining where its condition does not hold."""
    return lambda *args: kernel(*args) if when(*args) else NotImplemented


def _dispatcher(text: Callable[..., Any], kernels: _Phase, first: int) -> Callable[..., Any]:
    """Run the first kernel that takes the call, else the text. The argument at `first` is usually an array."""
    on_cpu = kernels.on_cpu

    def run(op: Op, *args: Any) -> Any:
        level = current().kernels
        if args[first].__class__ is ndarray:
            for kernel in on_cpu[level]:
                found = kernel(op, *args)
                if found is not NotImplemented:
                    return found
        elif level:
            place = _device(args)
            for kernel, device, tier in kernels.all:
                if tier <= level and device == place:
                    found = kernel(op, *args)
                    if found is not NotImplemented:
                        return found
        return text(op, *args)

    return run


def _device(args: tuple[Any, ...]) -> str:
    """The kind of device of the first array among the arguments; backward's saved arrays are not looked at."""
    for x in args:
        if is_array(x):
            return device_of(x).type
    return Device("cpu").type


def kernels_of(op: type[Op], phase: str) -> tuple[Kernel, ...]:
    """What is registered for one phase of an operation, in the order in which it is asked."""
    return tuple(_table[op, phase].all) if (op, phase) in _table else ()


def served(op: type[Op], phase: str, device: str) -> bool:
    """Whether a kernel of the tiers in use is registered for one phase of an operation on a kind of device."""
    kernels, level = _table.get((op, phase)), current().kernels
    if kernels is None:
        return False
    if device == "cpu":
        return bool(kernels.on_cpu[level])
    return any(kernel.tier <= level and kernel.device == device for kernel in kernels.all)


def tier(name: str) -> switch:
    """Use the tiers up to "text", "numpy", "compiled" or "all" inside the block."""
    if name not in KERNEL_TIERS:
        raise ArgumentError("kernels.tier", got=repr(name), wanted=f"one of {', '.join(map(repr, KERNEL_TIERS))}")
    return switch(kernels=KERNEL_TIERS[name])


def disabled() -> switch:
    """Run every operation's text inside the block."""
    return tier("text")
