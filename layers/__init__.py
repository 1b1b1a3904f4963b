"""Layers under torch.nn's names: modules that hold parameters and buffers, and call `minigrad.functional` with them."""

if __name__ != "minigrad.layers":
    raise ImportError("this folder is installed as minigrad.layers: write `from minigrad import layers` and run Python "
                      "where minigrad is installed (pip install -e .)")

from minigrad.layers import init
from minigrad.layers.activation import (
    ELU,
    GELU,
    Hardtanh,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from minigrad.layers.attention import MultiheadAttention
from minigrad.layers.batch_norm import BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d
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
from minigrad.layers.convolution import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Fold,
    Unfold,
)
from minigrad.layers.dropout import Dropout
from minigrad.layers.embedding import Embedding
from minigrad.layers.folding import Folding, fold, folds
from minigrad.layers.instance_norm import InstanceNorm, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from minigrad.layers.linear import Linear
from minigrad.layers.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from minigrad.layers.meter import Discrepancy, discrepancy
from minigrad.layers.module import Module
from minigrad.layers.normalization import GroupNorm, LayerNorm, LocalResponseNorm, RMSNorm
from minigrad.layers.pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from minigrad.layers.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
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
from minigrad.layers.transformer import TransformerEncoder, TransformerEncoderLayer
from minigrad.tensor import Buffer, Parameter

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "BCELoss",
    "BCEWithLogitsLoss", "BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Buffer", "Conv1d", "Conv2d",
    "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "CrossEntropyLoss", "Discrepancy", "Dropout",
    "ELU", "Embedding", "Flatten", "Fold", "Folding", "GELU", "GRU", "GRUCell", "GroupNorm", "Hardtanh", "HuberLoss",
    "Identity", "InstanceNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "InstanceStatsUpdate",
    "KLDivLoss", "L1Loss", "LSTM", "LSTMCell", "LayerNorm", "LeakyReLU", "Linear", "LoadedKeys", "LocalResponseNorm",
    "LogSigmoid", "LogSoftmax", "MSELoss", "MaxPool1d", "MaxPool2d", "MaxPool3d", "Mish", "Module", "ModuleList",
    "MultiheadAttention", "NLLLoss", "Parameter", "RMSNorm", "RNN", "RNNCell", "ReLU", "ReLU6", "Sequential", "SiLU",
    "Sigmoid", "SmoothL1Loss", "Softmax", "Softplus", "StatisticsLedger", "StatsUpdate", "Tanh", "TransformerEncoder",
    "TransformerEncoderLayer", "Unfold", "accumulate_statistics", "batch_norm_from_keras", "batch_norm_to_keras",
    "biased_variance", "discrepancy", "draw_sharing", "fold", "folds", "freeze", "frozen_statistics", "init",
    "momentum_from_keras", "momentum_to_keras", "recalibrate", "sharing_mask", "unbiased_variance", "unfreeze",
    "withhold_statistics",
]
