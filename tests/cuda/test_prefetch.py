"""Batches on a GPU, one ahead: on a stand-in for CuPy whose copies are done only when somebody waits for them."""

import cupy_on_numpy
import numpy as np
import pytest

import minigrad
from minigrad.data import DataLoader, TensorDataset
from minigrad.errors import ArgumentError, DeviceError

DATA = TensorDataset(np.arange(40, dtype=np.float32).reshape(20, 2), np.arange(20))


@pytest.fixture
def gpu(monkeypatch):
    with cupy_on_numpy.installed(monkeypatch) as state:
        yield state


@pytest.mark.parametrize("workers", [0, 2])
def test_the_batches_are_those_of_the_cpu_on_the_gpu(gpu, workers):
    options = {"batch_size": 3, "shuffle": True, "seed": 4, "workers": workers}
    here, there = DataLoader(DATA, **options), DataLoader(DATA, **options, device="cuda")
    for _ in range(2):
        seen = 0
        for (x, t), (u, v) in zip(here, there, strict=True):
            assert (str(u.device), u.dtype, v.dtype) == ("cuda:0", np.float32, np.int64)
            assert np.array_equal(u.numpy(), x.numpy())
            assert np.array_equal(v.numpy(), t.numpy())
            seen += 1
        assert seen == 7
    assert here.state_dict() == there.state_dict()


def test_who_uses_a_batch_waits_for_it_and_the_next_is_under_way(gpu):
    side, began = None, len(gpu.log)
    for number, (x, _) in enumerate(DataLoader(DATA, 4, device="cuda")):
        waits = [event for what, stream, event in gpu.log[began:] if what == "wait" and stream.null]
        assert len(waits) == number + 1  # the consumer's stream waits for each batch, once
        side = waits[0].stream
        assert all(event.stream is side for event in waits)
        assert len(side.queue) == (2 if number < 4 else 0)  # two fields of the next batch
        assert x.numpy()[0, 0] == 8 * number
        began_of_side = [event for what, stream, event in gpu.log if what == "wait" and stream is side]
        assert len(began_of_side) == min(number + 2, 5)  # a copy waits for what the consumer had been given
        assert all(event.stream.null for event in began_of_side)


def test_pinned_memory_is_kept_until_its_copy_is_done(gpu):
    found = [x for x, _ in DataLoader(DATA, 2, device="cuda")]
    assert np.array_equal(np.concatenate([x.numpy() for x in found]), DATA.batch(range(20))[0])
    blocks = [len(free) for free in gpu.pinned_blocks.values()]
    assert max(blocks) <= 6  # of 20: given out again


def test_a_loop_that_is_left_early_leaves_no_copy_behind(gpu):
    loader = DataLoader(DATA, 2, device="cuda")
    batches = iter(loader)
    next(batches)
    batches.close()
    sides = {stream for _, stream, _ in gpu.log if not stream.null}
    assert [len(side.queue) for side in sides] == [0]
    assert loader.state_dict()["position"] == 1  # and not what was ahead


def test_batches_in_pinned_memory(gpu):
    found = [x for x, _ in DataLoader(DATA, 5, pin_memory=True)]
    assert all(str(x.device) == "cpu" for x in found)
    assert sum(map(len, gpu.pinned_blocks.values())) > 0
    assert np.array_equal(np.concatenate([x.numpy() for x in found]), DATA.batch(range(20))[0])


def test_the_cpu_is_a_device_too():
    assert [x.numpy().tolist() for x, _ in DataLoader(DATA, 20, device="cpu")] == [DATA.batch(range(20))[0].tolist()]
    with pytest.raises(ArgumentError, match="pin_memory=True with device='cpu'"):
        DataLoader(DATA, device="cpu", pin_memory=True)


@pytest.mark.parametrize("options", [{"device": "cuda"}, {"pin_memory": True}])
def test_without_a_gpu_it_says_what_is_missing(options):
    if minigrad.backend.cuda_problem():
        with pytest.raises(DeviceError, match=r"wanted a machine where CUDA works\. CuPy is"):
            DataLoader(DATA, **options)
