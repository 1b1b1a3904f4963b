"""Optimizers, schedules, groups, gradient clipping, with `torch.optim`'s names and arithmetic; averages of weights.

Imported as `minigrad.optim`.

Examples
--------
>>> from minigrad import Parameter
>>> from minigrad.optim import SGD
>>> w = Parameter([1.0, -2.0])
>>> optimizer = SGD([w], lr=0.1)
>>> (w * w).sum().backward()
>>> optimizer.step()
>>> w
Parameter([ 0.8, -1.6], float32)
"""

if __name__ != "minigrad.optim":
    raise ImportError(f"this folder is imported as minigrad.optim, not as {__name__!r}: install the project "
                      "(pip install -e .) and write `from minigrad import optim`", name=__name__)

from minigrad.optim.adam import Adam, AdamW
from minigrad.optim.clip import clip_grad_norm_, clip_grad_value_
from minigrad.optim.cycles import OneCycleLR, ReduceLROnPlateau
from minigrad.optim.ema import EMA
from minigrad.optim.groups import parameter_groups
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.scaler import GradScaler
from minigrad.optim.schedules import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    SequentialLR,
    StepLR,
)
from minigrad.optim.sgd import SGD

__all__ = [
    "Adam", "AdamW", "CosineAnnealingLR", "EMA", "ExponentialLR", "GradScaler", "LRScheduler", "LambdaLR", "LinearLR",
    "MultiStepLR", "OneCycleLR", "Optimizer", "ReduceLROnPlateau", "SGD", "SequentialLR", "StepLR", "clip_grad_norm_",
    "clip_grad_value_", "parameter_groups",
]
