"""Layers under torch.nn's names: modules that hold parameters and buffers, and call `minigrad.functional` with them."""

if __name__ != "minigrad.layers":
    raise ImportError("this folder is installed as minigrad.layers: write `from minigrad import layers` and run Python "
                      "where minigrad is installed (pip install -e .)")

from minigrad.layers import init
from minigrad.layers.activation import GELU, LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from minigrad.layers.batch_norm import (
    BatchNorm,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
)
from minigrad.layers.calibration import freeze, recalibrate, unfreeze
from minigrad.layers.containers import Flatten, Identity, ModuleList, Sequential
from minigrad.layers.conventions import (
    batch_norm_from_keras,
    batch_norm_to_keras,
    biased_variance,
    momentum_from_keras,
    momentum_to_keras,
    unbiased_variance,
)
from minigrad.layers.convolution import Conv2d
from minigrad.layers.dropout import Dropout
from minigrad.layers.folding import Fold, fold, folds
from minigrad.layers.linear import Linear
from minigrad.layers.loss import CrossEntropyLoss, MSELoss
from minigrad.layers.meter import Discrepancy, discrepancy
from minigrad.layers.module import Module
from minigrad.layers.normalization import GroupNorm, LayerNorm, LocalResponseNorm, RMSNorm
from minigrad.layers.pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from minigrad.layers.sharing import draw_sharing, sharing_mask
from minigrad.layers.state import LoadedKeys
from minigrad.layers.statistics import (
    InstanceStatsUpdate,
    StatisticsLedger,
    StatsUpdate,
    accumulate_statistics,
    frozen_statistics,
    withhold_statistics,
)
from minigrad.tensor import Buffer, Parameter

__all__ = [
    "AdaptiveAvgPool2d", "AvgPool2d", "BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Buffer", "Conv2d",
    "CrossEntropyLoss", "Discrepancy", "Dropout", "Flatten", "Fold", "GELU", "GroupNorm", "Identity",
    "InstanceNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "InstanceStatsUpdate", "LayerNorm",
    "LeakyReLU", "Linear", "LoadedKeys", "LocalResponseNorm", "LogSoftmax", "MSELoss", "MaxPool2d", "Module",
    "ModuleList", "Parameter", "RMSNorm", "ReLU", "Sequential", "SiLU", "Sigmoid", "Softmax", "Softplus",
    "StatisticsLedger", "StatsUpdate", "Tanh", "accumulate_statistics", "batch_norm_from_keras",
    "batch_norm_to_keras", "biased_variance", "discrepancy", "draw_sharing", "fold", "folds", "freeze",
    "frozen_statistics", "init", "momentum_from_keras", "momentum_to_keras", "recalibrate", "sharing_mask",
    "unbiased_variance", "unfreeze", "withhold_statistics",
]
