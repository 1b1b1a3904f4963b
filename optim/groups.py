"""Which parameters weight decay is for: weights of linear maps, not biases and normalizations."""

from __future__ import annotations

from minigrad.errors import DtypeError
from minigrad.layers.module import Module
from minigrad.layers.normalization import Normalization
from minigrad.optim.options import Options, at_least_zero
from minigrad.tensor import Tensor

__all__ = ["parameter_groups"]


def parameter_groups(model: Module, weight_decay: float) -> list[Options]:
    """The parameters of a model in two groups, with and without weight decay, for an optimizer.

    Without decay go the parameters of normalization layers (whatever their shape: LayerNorm's can have two axes),
    those called bias, and all others with fewer than two axes.

    Parameters
    ----------
    model : Module
    weight_decay : float
        For the first group, ≥ 0.

    Returns
    -------
    list of dict
        Groups with ``"name"``, ``"params"``, ``"param_names"`` and ``"weight_decay"``; empty ones are left out. A
        parameter that two layers share is in the group without decay if either of them puts it there. Frozen
        parameters are included: optimizers pass over what has no gradient.

    Raises
    ------
    ArgumentError, DtypeError
        `weight_decay` is negative or no number, or `model` no Module.

    References
    ----------
    T. He et al., "Bag of tricks for image classification with convolutional neural networks", CVPR 2019, section 3.1
    ("no bias decay").

    Examples
    --------
    >>> from minigrad.layers import BatchNorm1d, Linear, Sequential
    >>> from minigrad.optim import AdamW, parameter_groups
    >>> model = Sequential(Linear(4, 8), BatchNorm1d(8), Linear(8, 2))
    >>> for group in parameter_groups(model, weight_decay=0.05):
    ...     print(group["name"], group["weight_decay"], group["param_names"])
    decay 0.05 ['0.weight', '2.weight']
    no decay 0.0 ['0.bias', '1.weight', '1.bias', '2.bias']
    >>> optimizer = AdamW(parameter_groups(model, weight_decay=0.05), lr=1e-3)
    """
    if not isinstance(model, Module):
        raise DtypeError("parameter_groups", got=f"a {type(model).__name__}", wanted="a Module")
    decay = at_least_zero("parameter_groups", "weight_decay", weight_decay)
    names: dict[Tensor, str] = {}
    exempt: set[Tensor] = set()
    for path, layer in model.named_modules():
        for name, parameter in layer.named_parameters(recurse=False):
            names.setdefault(parameter, f"{path}.{name}" if path else name)
            if isinstance(layer, Normalization) or name == "bias" or parameter.ndim < 2:
                exempt.add(parameter)
    decayed = [p for p in names if p not in exempt]
    kept = [p for p in names if p in exempt]
    return [
        {"name": name, "params": params, "param_names": [names[p] for p in params], "weight_decay": rate}
        for name, params, rate in (("decay", decayed, decay), ("no decay", kept, 0.0)) if params
    ]
