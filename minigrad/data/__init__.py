"""Data sets, transforms, and the loader that cuts them into batches."""

from minigrad.data.cifar10 import CIFAR10
from minigrad.data.csv import CSVDataset
from minigrad.data.dataset import Dataset, Subset, TensorDataset, random_split
from minigrad.data.download import download
from minigrad.data.fashion_mnist import FashionMNIST
from minigrad.data.loader import DataLoader
from minigrad.data.mnist import MNIST
from minigrad.data.transforms import Cutout, Normalize, RandomCrop, RandomFlip, Transform, Transformed

__all__ = ["CIFAR10", "CSVDataset", "Cutout", "DataLoader", "Dataset", "FashionMNIST", "MNIST", "Normalize",
           "RandomCrop", "RandomFlip", "Subset", "TensorDataset", "Transform", "Transformed", "download",
           "random_split"]
