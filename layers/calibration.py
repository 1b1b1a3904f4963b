"""Running statistics of a whole model: taken again on a data set, or frozen."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from minigrad.backend import is_array
from minigrad.errors import ArgumentError, StateError
from minigrad.layers.batch_norm import Tracked
from minigrad.layers.module import Module
from minigrad.layers.statistics import withhold_statistics
from minigrad.modes import no_grad
from minigrad.tensor import Tensor

__all__ = ["batch_statistics", "first_of", "freeze", "recalibrate", "tracked_layers", "unfreeze"]


def tracked_layers(model: Module) -> dict[str, Tracked]:
    """By path: the layers of a model that have running statistics."""
    return {name: layer for name, layer in model.named_modules()
            if isinstance(layer, Tracked) and layer.track_running_stats}


@contextlib.contextmanager
def batch_statistics(model: Module, use: bool = True) -> Iterator[None]:
    """Inside the block, layers with running statistics normalize by those of the batch (or with ``use=False`` not).

    All other layers are in evaluation mode, so that dropout adds nothing of its own. Afterwards all is as before.
    """
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    for layer in tracked_layers(model).values():
        layer.training = use
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def first_of(batch: Any) -> Tensor:
    """The input of a batch: the batch itself, or the first of a tuple such as (images, labels)."""
    x = batch[0] if isinstance(batch, (tuple, list)) else batch
    return Tensor(x) if is_array(x) else x


def recalibrate(model: Module, batches: Iterable[Any], forward: Callable[[Any], Any] | None = None) -> int:
    """Replace all running statistics by those of a data set, with the weights as they are now (PreciseBN).

    Averages that were taken while the weights moved lag behind them; a few thousand examples suffice to take them anew.
    The statistics of the batches are merged exactly, so the last batch may be smaller. The model runs in training mode
    as far as running statistics are concerned, without dropout and without recording.

    Parameters
    ----------
    model : Module
    batches : iterable of Tensors or arrays, or of tuples whose first element is the input
        Use batches of the size that training used: deeper layers see activations normalized by it.
    forward : callable, optional
        What to do with a batch (whole, as it comes), in place of ``model(input)``.

    Returns
    -------
    int
        The number of batches.

    Raises
    ------
    ArgumentError
        The model has no running statistics, or there are no batches.
    StateError
        No batch reached some layer; nothing was changed. (Frozen layers are left out.)

    References
    ----------
    Y. Wu & J. Johnson, "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576, section 3.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad.layers import BatchNorm1d, recalibrate
    >>> norm = BatchNorm1d(1)
    >>> recalibrate(norm, [minigrad.tensor([[1.0], [3.0]]), minigrad.tensor([[8.0], [8.0]])])
    2
    >>> norm.running_mean.item()
    5.0
    """
    layers = {name: layer for name, layer in tracked_layers(model).items() if not layer.frozen}
    if not layers:
        raise ArgumentError("recalibrate", got=f"{type(model).__name__} without running statistics to take",
                            wanted="at least one BatchNorm that is not frozen")
    count = 0
    with batch_statistics(model), no_grad(), withhold_statistics(model) as held:
        for batch in batches:
            count += 1
            if forward is None:
                model(first_of(batch))
            else:
                forward(batch)
    if not count:
        raise ArgumentError("recalibrate", got="no batches", wanted="at least one")
    missed = [name for name, layer in layers.items() if layer not in held.updates]
    if missed:
        listed = ", ".join(name or "the model" for name in missed)
        raise StateError("recalibrate", got=f"no finite statistics for {listed}",
                         wanted="batches that reach every layer", hint="Nothing was changed")
    held.commit(momentum=1.0, each=True)
    return count


def freeze(model: Module, parameters: bool = True) -> list[str]:
    """Freeze every layer with running statistics: they are used and kept from now on, in training mode too.

    Three things at once: the running statistics normalize, nothing updates them, and (with `parameters`) γ and β are
    not trained. It survives ``model.train()``; `unfreeze` ends it.

    Returns
    -------
    list of str
        The paths of the layers.

    Examples
    --------
    >>> from minigrad.layers import BatchNorm1d, Linear, Sequential, freeze
    >>> model = Sequential(Linear(2, 3), BatchNorm1d(3))
    >>> freeze(model)
    ['1']
    >>> model.train()[1].uses_running_stats
    True
    """
    layers = tracked_layers(model)
    for layer in layers.values():
        layer.freeze(parameters)
    return list(layers)


def unfreeze(model: Module) -> list[str]:
    """Undo `freeze`; returns the paths of the layers that were frozen."""
    frozen = [name for name, layer in tracked_layers(model).items() if layer.frozen]
    for layer in tracked_layers(model).values():
        layer.unfreeze()
    return frozen
