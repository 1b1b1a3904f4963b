"""Data sets: what a batch holds, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data import Dataset, Subset, TensorDataset, random_split
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.tensor import Tensor


class Listed(Dataset):
    """A data set that defines only the two methods it must, so that `batch` is the base class's."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def arrays(count=6):
    return np.arange(count * 6, dtype=np.float32).reshape(count, 2, 3), np.arange(count) * 10


def test_tensor_dataset_shares_its_arrays_and_cuts_samples():
    x, y = arrays()
    data = TensorDataset(x, y)
    assert len(data) == 6
    assert data.arrays[0] is x
    image, label = data[-1]
    np.testing.assert_array_equal(image, x[5])
    assert label == 50
    assert label.dtype == y.dtype


def test_tensor_dataset_takes_tensors_without_copying():
    x, y = arrays()
    data = TensorDataset(Tensor(x), y)
    assert np.shares_memory(data.arrays[0], x)


def test_python_numbers_become_what_tensors_make_of_them():
    x, y = Listed([(0.5, 1), (1.5, 2)]).batch([0, 1])
    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    assert x.tolist() == [0.5, 1.5]
    data = TensorDataset([[0.5], [1.5]], [1, 2])
    assert [array.dtype for array in data.arrays] == [np.float32, np.int64]
    assert TensorDataset(np.array([0.5, 1.5])).arrays[0].dtype == np.float64


def test_a_batch_is_a_copy():
    x, y = arrays()
    TensorDataset(x, y).batch([0, 1])[0][:] = -1
    np.testing.assert_array_equal(x, arrays()[0])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_the_fast_batch_equals_the_stacked_samples(indices):
    x, y = arrays()
    fast = TensorDataset(x, y).batch(indices)
    slow = Listed(list(zip(x, y, strict=True))).batch(indices)
    for a, b in zip(fast, slow, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.data())
def test_a_subset_of_a_subset_finds_the_same_samples(indices, data):
    x, _ = arrays()
    inner = Subset(TensorDataset(x), indices)
    chosen = data.draw(st.lists(st.integers(0, len(indices) - 1), min_size=1))
    outer = Subset(inner, chosen)
    wanted = x[np.asarray(indices)[chosen]]
    np.testing.assert_array_equal(outer.batch(range(len(outer)))[0], wanted)
    np.testing.assert_array_equal(np.stack([outer[i][0] for i in range(len(outer))]), wanted)


def test_random_split_gives_each_sample_to_one_part_and_repeats_with_the_seed():
    data = TensorDataset(np.arange(100))
    parts = random_split(data, [70, 25, 5], seed=3)
    assert [len(part) for part in parts] == [70, 25, 5]
    together = np.concatenate([part.indices for part in parts])
    assert sorted(together) == list(range(100))
    assert not np.array_equal(together, np.arange(100))
    again = random_split(data, [70, 25, 5], seed=3)
    assert all(np.array_equal(a.indices, b.indices) for a, b in zip(parts, again, strict=True))
    other = random_split(data, [70, 25, 5], seed=4)
    assert not np.array_equal(parts[0].indices, other[0].indices)


def test_an_empty_part_is_allowed():
    assert [len(part) for part in random_split(TensorDataset(np.arange(3)), [3, 0], seed=0)] == [3, 0]


@pytest.mark.parametrize("lengths", [[5, 4], [11], [12, -2]])
def test_random_split_refuses_lengths_that_do_not_add_up(lengths):
    with pytest.raises(ArgumentError, match="add up to the 10 samples"):
        random_split(TensorDataset(np.arange(10)), lengths, seed=0)


def test_tensor_dataset_refuses_arrays_that_do_not_fit():
    with pytest.raises(ArgumentError, match="no arrays"):
        TensorDataset()
    with pytest.raises(ShapeError, match=r"\(3, 2\), \(4,\)"):
        TensorDataset(np.zeros((3, 2)), np.zeros(4))
    with pytest.raises(ShapeError, match=r"\(\)"):
        TensorDataset(np.float32(1))


@pytest.mark.parametrize("indices", [[0.0, 1.0], [True, False], [[0, 1]], 1])
def test_indices_must_be_whole_numbers_in_a_row(indices):
    data = TensorDataset(np.arange(2))
    with pytest.raises(DtypeError, match=r"TensorDataset\.batch.*whole numbers"):
        data.batch(indices)
    with pytest.raises(DtypeError, match=r"Subset.*whole numbers"):
        Subset(data, indices)


def test_indices_outside_are_refused():
    data = TensorDataset(np.arange(2))
    with pytest.raises(IndexError):
        data.batch([2])
    with pytest.raises(IndexError, match="got index -1, wanted 0 to 1"):
        Subset(data, [0, -1])


def test_the_base_class_says_which_sample_is_wrong():
    with pytest.raises(ArgumentError, match="no indices"):
        Listed([(1,)]).batch([])
    with pytest.raises(DtypeError, match=r"Listed\[1\].*type int"):
        Listed([(1,), 2]).batch([0, 1])
    with pytest.raises(DtypeError, match=r"Listed\[0\].*type ndarray"):
        Listed([np.zeros(3)]).batch([0])
    with pytest.raises(ShapeError, match=r"Listed\[1\].*2 fields.*1"):
        Listed([(1,), (1, 2)]).batch([0, 1])
    with pytest.raises(ShapeError, match=r"Listed\[2\].*\(3,\) in field 0.*\(2,\).*sample 1"):
        Listed([(0,), (np.zeros(2),), (np.zeros(3),)]).batch([1, 2])


def test_a_data_set_must_define_its_length_and_samples():
    with pytest.raises(TypeError, match="__getitem__"):
        Dataset()
