"""DataLoader: every sample once, in an order that can be reproduced."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data import DataLoader, Dataset, TensorDataset
from minigrad.errors import ArgumentError, DtypeError
from minigrad.tensor import Tensor


def epoch(loader):
    """The samples of one epoch in the order in which they came."""
    return np.concatenate([x.numpy() for (x,) in loader]).tolist()


def numbers(count):
    return TensorDataset(np.arange(count))


@given(
    count=st.integers(0, 40),
    batch_size=st.integers(1, 45),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
)
def test_an_epoch_holds_every_sample_once_in_batches_of_the_right_size(count, batch_size, shuffle, drop_last):
    drop_last = drop_last and count >= batch_size
    loader = DataLoader(numbers(count), batch_size, shuffle, drop_last=drop_last)
    sizes = [x.shape[0] for (x,) in loader]
    whole, rest = divmod(count, batch_size)
    assert sizes == [batch_size] * whole + [rest] * (rest > 0 and not drop_last)
    assert len(loader) == len(sizes)
    if sizes:
        seen = epoch(loader)
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(count))
        if not shuffle:
            assert seen == list(range(len(seen)))


def test_batches_are_tuples_of_tensors_with_the_fields_dtype():
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    y = np.array([5, 6, 7], dtype=np.int64)
    (inputs, targets), (rest, _) = DataLoader(TensorDataset(x, y), batch_size=2)
    assert isinstance(inputs, Tensor)
    assert not inputs.requires_grad
    assert inputs.dtype == np.float32
    assert targets.dtype == np.int64
    np.testing.assert_array_equal(inputs.numpy(), x[:2])
    np.testing.assert_array_equal(targets.numpy(), y[:2])
    assert rest.shape == (1, 4)


def test_fields_stay_together_when_shuffled():
    data = TensorDataset(np.arange(50), np.arange(50) ** 2)
    for x, y in DataLoader(data, batch_size=7, shuffle=True, seed=0):
        np.testing.assert_array_equal(y.numpy(), x.numpy() ** 2)


def test_the_seed_decides_the_order_of_every_epoch():
    first, second = (DataLoader(numbers(30), 4, shuffle=True, seed=5) for _ in range(2))
    orders = [epoch(first) for _ in range(3)]
    assert [epoch(second) for _ in range(3)] == orders
    assert len({tuple(order) for order in orders}) == 3
    assert epoch(DataLoader(numbers(30), 4, shuffle=True, seed=6)) != orders[0]


def test_an_epoch_can_be_met_again_without_those_before_it():
    whole = DataLoader(numbers(30), 4, shuffle=True, seed=5)
    orders = [epoch(whole) for _ in range(3)]
    resumed = DataLoader(numbers(30), 4, shuffle=True, seed=5)
    resumed.epoch = 2
    assert epoch(resumed) == orders[2]
    assert resumed.epoch == 3


def test_the_order_is_numpys_permutation_of_seed_and_epoch():
    loader = DataLoader(numbers(8), 8, shuffle=True, seed=7)
    loader.epoch = 4
    assert epoch(loader) == np.random.default_rng([7, 4]).permutation(8).tolist()


def test_without_a_seed_one_is_drawn_and_can_be_noted():
    loader = DataLoader(numbers(30), 4, shuffle=True)
    assert epoch(DataLoader(numbers(30), 4, shuffle=True, seed=loader.seed)) == epoch(loader)


def test_a_generator_draws_the_orders_one_after_another():
    loader = DataLoader(numbers(30), 30, shuffle=True, generator=np.random.default_rng(1))
    wanted = np.random.default_rng(1)
    assert epoch(loader) == wanted.permutation(30).tolist()
    assert epoch(loader) == wanted.permutation(30).tolist()
    assert loader.seed is None


def test_two_iterators_at_once_are_two_epochs():
    loader = DataLoader(numbers(20), 20, shuffle=True, seed=2)
    first, second = iter(loader), iter(loader)
    late, early = next(second)[0].numpy().tolist(), next(first)[0].numpy().tolist()
    fresh = DataLoader(numbers(20), 20, shuffle=True, seed=2)
    assert [early, late] == [epoch(fresh), epoch(fresh)]


def test_each_batch_asks_the_data_set_once():
    class Counting(TensorDataset):
        calls = 0

        def batch(self, indices):
            self.calls += 1
            return super().batch(indices)

        def __getitem__(self, index):
            raise AssertionError("the loader fetched a single sample")

    data = Counting(np.arange(10))
    assert epoch(DataLoader(data, 4)) == list(range(10))
    assert data.calls == 3


def test_a_data_set_without_its_own_batch_works():
    class Pairs(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return np.full(2, index, np.float32), index

    x, y = next(iter(DataLoader(Pairs(), batch_size=3)))
    np.testing.assert_array_equal(x.numpy(), np.array([[0, 0], [1, 1], [2, 2]], np.float32))
    assert y.numpy().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"batch_size": 0}, ArgumentError, "batch_size=0.*at least 1"),
        ({"batch_size": 2.0}, DtypeError, r"batch_size=2\.0.*whole number"),
        ({"shuffle": True, "seed": -1}, ArgumentError, "seed=-1.*at least 0"),
        ({"shuffle": True, "seed": "7"}, DtypeError, "seed='7'.*whole number"),
        ({"seed": 1}, ArgumentError, "shuffle=False"),
        ({"generator": np.random.default_rng(0)}, ArgumentError, "shuffle=False"),
        ({"shuffle": True, "seed": 1, "generator": np.random.default_rng(0)}, ArgumentError, "both seed and"),
        ({"batch_size": 9, "drop_last": True}, ArgumentError, "batch_size=9 and a data set of 8 samples"),
    ],
)
def test_wrong_options_are_refused(options, error, text):
    with pytest.raises(error, match=text):
        DataLoader(numbers(8), **options)
