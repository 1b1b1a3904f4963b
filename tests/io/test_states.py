"""States as files."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from minigrad import Tensor, io, layers
from minigrad.errors import StateError


def test_round_trip_in_every_layout_and_dtype(tmp_path):
    rng = np.random.default_rng(0)
    state = {
        "fortran": np.asfortranarray(rng.standard_normal((3, 4))),
        "sliced": rng.standard_normal((6, 4))[::2, ::-1],
        "scalar": np.array(3, np.int64),
        "empty": np.zeros((0, 2), np.float32),
        "half": rng.standard_normal(5).astype(np.float16),
        "tensor": Tensor([1.0, 2.0]),
    }
    io.save(state, tmp_path / "state.safetensors")
    for read in (io.load(tmp_path / "state.safetensors"), load_file(tmp_path / "state.safetensors")):
        assert read.keys() == state.keys()
        for name, entry in state.items():
            wanted = np.asarray(entry)
            assert read[name].dtype == wanted.dtype, name
            assert np.array_equal(read[name], wanted), name


def test_a_module_is_the_same_after_a_round_trip(tmp_path):
    def build():
        return layers.Sequential(layers.Conv2d(1, 2, 3), layers.BatchNorm2d(2), layers.Flatten(), layers.Linear(8, 3))

    x = Tensor(np.random.default_rng(0).standard_normal((5, 1, 4, 4)).astype(np.float32))
    one, other = build(), build()
    one(x)
    io.save(one.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(io.load(tmp_path / "model.safetensors"))
    assert np.array_equal(one.eval()(x).numpy(), other.eval()(x).numpy())


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "state.safetensors"
    io.save({"a": np.ones(2)}, path)
    before = path.read_bytes()
    with pytest.raises(StateError, match="dtype"):
        io.save({"a": np.array(["text"])}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_damaged_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    io.save({"a": np.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(StateError, match=r"state\.safetensors"):
        io.load(path)
    with pytest.raises(FileNotFoundError):
        io.load(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize(("state", "said"), [
    (None, "NoneType"), (layers.Linear(1, 1), "state_dict"), ({"a": np.ones(2, complex)}, "complex"),
    ({1: np.ones(2)}, "str"), ({"a": None}, "object"),
])
def test_what_is_no_state_is_refused_and_nothing_written(state, said, tmp_path):
    with pytest.raises(StateError, match=said):
        io.save(state, tmp_path / "state.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        io.save({"a": np.ones(2)}, tmp_path / "nowhere" / "state.safetensors")
    with pytest.raises(OSError, match=tmp_path.name):
        io.save({"a": np.ones(2)}, tmp_path)
    with pytest.raises(OSError, match=r"system|directory|device"):
        io.load(tmp_path)
