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
from minigrad.layers.containers import Flatten, Identity, ModuleList, Sequential
from minigrad.layers.convolution import Conv2d
from minigrad.layers.dropout import Dropout
from minigrad.layers.linear import Linear
from minigrad.layers.loss import CrossEntropyLoss, MSELoss
from minigrad.layers.module import Module
from minigrad.layers.normalization import GroupNorm, LayerNorm, LocalResponseNorm, RMSNorm
from minigrad.layers.pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
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
    "CrossEntropyLoss", "Dropout", "Flatten", "GELU", "GroupNorm", "Identity", "InstanceNorm", "InstanceNorm1d",
    "InstanceNorm2d", "InstanceNorm3d", "InstanceStatsUpdate", "LayerNorm", "LeakyReLU", "Linear", "LoadedKeys",
    "LocalResponseNorm", "LogSoftmax", "MSELoss", "MaxPool2d", "Module", "ModuleList", "Parameter", "RMSNorm",
    "ReLU", "Sequential", "SiLU", "Sigmoid", "Softmax", "Softplus", "StatisticsLedger", "StatsUpdate", "Tanh",
    "accumulate_statistics", "frozen_statistics", "init", "withhold_statistics",
]
