"""Data sets and the loader that cuts them into batches."""

from minigrad.data.dataset import Dataset, Subset, TensorDataset, random_split
from minigrad.data.fashion_mnist import FashionMNIST
from minigrad.data.loader import DataLoader

__all__ = ["DataLoader", "Dataset", "FashionMNIST", "Subset", "TensorDataset", "random_split"]
