"""Layers under torch.nn's names: modules that hold parameters and buffers, and call `minigrad.functional` with them."""

if __name__ != "minigrad.layers":
    raise ImportError("this folder is installed as minigrad.layers: write `from minigrad import layers` and run Python "
                      "where minigrad is installed (pip install -e .)")

from minigrad.layers import init
from minigrad.layers.activation import GELU, LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from minigrad.layers.containers import Flatten, Identity, ModuleList, Sequential
from minigrad.layers.convolution import Conv2d
from minigrad.layers.dropout import Dropout
from minigrad.layers.linear import Linear
from minigrad.layers.loss import CrossEntropyLoss, MSELoss
from minigrad.layers.module import Module
from minigrad.layers.normalization import BatchNorm, BatchNorm1d, BatchNorm2d, LayerNorm
from minigrad.layers.pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from minigrad.layers.state import LoadedKeys
from minigrad.layers.statistics import StatsUpdate
from minigrad.tensor import Buffer, Parameter

__all__ = [
    "AdaptiveAvgPool2d", "AvgPool2d", "BatchNorm", "BatchNorm1d", "BatchNorm2d", "Buffer", "Conv2d",
    "CrossEntropyLoss", "Dropout", "Flatten", "GELU", "Identity", "LayerNorm", "LeakyReLU", "Linear", "LoadedKeys",
    "LogSoftmax", "MSELoss", "MaxPool2d", "Module", "ModuleList", "Parameter", "ReLU", "Sequential", "SiLU", "Sigmoid",
    "Softmax", "Softplus", "StatsUpdate", "Tanh", "init",
]
