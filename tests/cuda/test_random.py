"""Seeded random numbers per device, on a stand-in for CuPy: reproducible, independent, and part of checkpoints."""

import cupy_on_numpy
import numpy as np
import pytest

import minigrad
from minigrad.errors import StateError
from minigrad.io import read_checkpoint, write_checkpoint


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    with cupy_on_numpy.installed(monkeypatch) as state:
        yield state


def drawn(device, generator, count=5):
    stream = generator.stream(device)
    found = stream.random((count,), dtype="float32")
    return found if device == "cpu" else found.get()


def test_one_seed_gives_the_same_numbers_and_devices_do_not_disturb_each_other():
    one, two = minigrad.Generator(7), minigrad.Generator(7)
    a = [drawn("cuda", one), drawn("cpu", one), drawn("cuda", one)]
    b = [drawn("cpu", two), drawn("cuda", two), drawn("cuda", two)]
    assert np.array_equal(a[0], b[1])
    assert np.array_equal(a[1], b[0])
    assert np.array_equal(a[2], b[2])
    assert not np.array_equal(a[0], a[2])
    assert not np.array_equal(a[0], a[1])
    one.manual_seed(7)
    assert np.array_equal(drawn("cuda", one), a[0])


def test_a_checkpoint_holds_the_streams_of_devices(tmp_path):
    generator = minigrad.Generator(7)
    drawn("cuda", generator)
    write_checkpoint(tmp_path / "step", {"random": generator.get_state()})
    wanted = [drawn("cuda", generator), drawn("cpu", generator)]
    other = minigrad.Generator(1)
    other.set_state(read_checkpoint(tmp_path / "step")["random"])
    assert np.array_equal(drawn("cuda", other), wanted[0])
    assert np.array_equal(drawn("cpu", other), wanted[1])


def test_the_state_without_devices_is_plain_numbers():
    generator = minigrad.Generator(7)
    drawn("cuda", generator)
    assert set(generator.get_state(devices=False)) == {"seed", "host"}
    assert set(minigrad.Generator(7).get_state()) == {"seed", "host"}


def test_a_state_of_another_length_is_refused_and_nothing_changes():
    generator = minigrad.Generator(7)
    drawn("cuda", generator)
    state = generator.get_state()
    wanted = drawn("cuda", generator)
    generator.set_state(state)
    with pytest.raises(StateError, match="3 bytes for cuda:0"):
        generator.set_state({**state, "devices": {"cuda:0": np.zeros(3, np.int8)}})
    assert np.array_equal(drawn("cuda", generator), wanted)


def test_where_there_is_no_gpu_its_streams_are_left_out(monkeypatch):
    generator = minigrad.Generator(7)
    drawn("cuda", generator)
    state = generator.get_state()
    wanted = drawn("cpu", generator)
    monkeypatch.setattr("minigrad.backend.cuda_problem", lambda: "no GPU")
    other = minigrad.Generator(1)
    other.set_state(state)
    assert np.array_equal(drawn("cpu", other), wanted)
