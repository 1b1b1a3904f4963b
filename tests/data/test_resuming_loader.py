"""The loader goes on where it was: within an epoch, between epochs, with threads and with generators."""

import json
import threading

import numpy as np
import pytest

from minigrad.data import DataLoader, Dataset, TensorDataset
from minigrad.errors import ArgumentError, DtypeError, StateError

DATA = TensorDataset(np.arange(23))


def make(workers=0, generator=None, **options):
    options = {"shuffle": True, **({"generator": generator} if generator else {"seed": 5})} | options
    return DataLoader(DATA, 4, workers=workers, **options)


def taken(loader, count):
    """The next `count` batches, over as many epochs as that needs."""
    found = []
    while len(found) < count:
        for (x,) in loader:
            found.append(x.tolist())
            if len(found) == count:
                break
    return found


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("kind", ["seed", "generator", "in order"])
@pytest.mark.parametrize("at", [0, 1, 5, 6, 7, 12, 14])
def test_it_goes_on_with_the_next_batch(at, kind, workers):
    def fresh():
        if kind == "in order":
            return make(workers, shuffle=False, seed=None)
        return make(workers, np.random.default_rng(9) if kind == "generator" else None)

    whole = taken(fresh(), 18)
    first = fresh()
    assert taken(first, at) == whole[:at]
    state = json.loads(json.dumps(first.state_dict()))
    second = fresh()
    second.load_state_dict(state)
    assert second.state_dict() == state
    # Broken off after the last batch of an epoch, the epoch's end is still to come.
    rest = [x.tolist() for (x,) in second] if at % 6 == 0 and at else []
    assert rest == []
    assert taken(second, 18 - at) == whole[at:]


def test_an_epoch_that_ran_out_is_over():
    loader = make()
    list(loader)
    assert loader.state_dict()["epoch"] == 1
    assert loader.state_dict()["position"] == 0
    iterator = iter(loader)
    next(iterator)
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (1, 1)
    loader.epoch = 4
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (4, 0)


@pytest.mark.parametrize("change", [{"samples": 24}, {"batch_size": 5}, {"seed": 6}, {"order": "0" * 64}, {"epoch": -1},
                                    {"position": "2"}, {"generator": {}}, {"more": 1}])
def test_a_state_of_another_loader_is_refused(change):
    loader = make()
    before = loader.state_dict()
    with pytest.raises(StateError, match=next(iter(change))):
        loader.load_state_dict(before | change)
    assert loader.state_dict() == before


def test_an_error_in_a_worker_reaches_the_loop_and_the_threads_end():
    class Broken(Dataset):
        def __len__(self):
            return 50

        def __getitem__(self, index):
            if index == 21:
                raise OSError("sample 21")
            return (np.float32(index),)

    threads = threading.active_count()
    batches = iter(DataLoader(Broken(), 5, workers=3))
    assert [len(next(batches)[0]) for _ in range(4)] == [5] * 4
    with pytest.raises(OSError, match="sample 21"):
        next(batches)
    for _ in DataLoader(Broken(), 5, workers=3):
        break
    assert threading.active_count() == threads


def test_workers_are_checked():
    with pytest.raises(ArgumentError, match="workers=-1"):
        DataLoader(DATA, 4, workers=-1)
    with pytest.raises(DtypeError, match=r"workers=1\.5"):
        DataLoader(DATA, 4, workers=1.5)
