"""Checkpoints: what goes in comes out, torch reads the arrays, and what is damaged or forged is refused by name."""

import hashlib
import json
import math
import os
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file

from minigrad import Tensor, layers, optim
from minigrad.errors import StateError
from minigrad.io import read_checkpoint, write_checkpoint
from minigrad.io.packing import pack, unpack


def example():
    return {
        "model": {"0.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "0.count": np.array(3)},
        "optimizer": {"state": {0: {"step": 4, "exp_avg": np.ones(2)}, 1: {}},
                      "param_groups": [{"betas": (0.9, 0.99)}]},
        "random": np.random.PCG64(5).state,
        "numbers": {"inf": math.inf, "nan": -math.inf, "half": np.float32(0.5), "none": None, "yes": True, "t": "ä"},
    }


def same(one, other):
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def test_every_kind_of_state_comes_back_as_it_was(tmp_path):
    folder = write_checkpoint(tmp_path / "step-1", example())
    wanted = example()
    wanted["numbers"]["half"] = 0.5
    assert same(wanted, read_checkpoint(folder))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-1"]
    assert sorted(p.name for p in folder.iterdir()) == ["model.safetensors", "optimizer.safetensors", "state.json"]


def test_arrays_lie_under_their_own_names():
    tree, arrays = pack({"a": {"b": [np.ones(1), Tensor([2.0])]}})
    assert list(arrays) == ["a.b.0", "a.b.1"]
    assert same(unpack(tree, arrays), {"a": {"b": [np.ones(1), np.float32([2.0])]}})


def test_equal_states_give_equal_files(tmp_path):
    for name in ("one", "two"):
        write_checkpoint(tmp_path / name, example())
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


@pytest.mark.parametrize("state", [{"f": print}, {"o": object()}, [{1.5: 0}], {"s": {1, 2}}, {"c": np.float32}])
def test_what_is_no_data_is_refused_by_place(tmp_path, state):
    with pytest.raises(StateError, match="never code"):
        write_checkpoint(tmp_path / "c", {"part": state})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StateError, match=r"two arrays at 'a\.b'"):
        pack({"a.b": np.ones(1), "a": {"b": np.ones(1)}})


def test_an_earlier_checkpoint_of_the_name_is_replaced(tmp_path):
    write_checkpoint(tmp_path / "c", {"old": {"a": np.ones(1)}})
    write_checkpoint(tmp_path / "c", {"new": {"b": 1}})
    assert read_checkpoint(tmp_path / "c") == {"new": {"b": 1}}
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_flipped_bit_and_every_truncation_is_found(tmp_path):
    folder = write_checkpoint(tmp_path / "c", example())
    rng = np.random.default_rng(0)
    for name, content in files(folder).items():
        path = folder / name
        for at in rng.choice(len(content), min(60, len(content)), replace=False):
            changed = bytearray(content)
            changed[at] ^= 1 << rng.integers(8)
            path.write_bytes(changed)
            with pytest.raises(StateError, match="checkpoint c"):
                read_checkpoint(folder)
        for length in (0, 1, 8, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:length])
            with pytest.raises(StateError, match="checkpoint c"):
                read_checkpoint(folder)
        path.unlink()
        with pytest.raises(StateError, match="checkpoint c"):
            read_checkpoint(folder)
        path.write_bytes(content)
    assert read_checkpoint(folder)


def forge(folder, change, arrays=None):
    """Rewrite a checkpoint as an attacker would, with all checksums right."""
    said = json.loads((folder / "state.json").read_text())["content"]
    for name, data in (arrays or {}).items():
        (folder / f"{name}.safetensors").write_bytes(data)
        said["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change(said)
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
    whole = {"content": said, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    (folder / "state.json").write_text(json.dumps(whole, ensure_ascii=False, separators=(",", ":")))


def tensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


HOSTILE_ARRAYS = {
    "huge header": struct.pack("<Q", 2**62) + b"{}",
    "header beyond the file": struct.pack("<Q", 5000) + b"{}",
    "no header": b"",
    "no JSON": tensors(b"\xff" * 50),
    "deep JSON": tensors(b"[" * 100_000),
    "places outside": tensors({"0.weight": {"dtype": "F32", "shape": [6], "data_offsets": [0, 1 << 40]}}, b"1" * 24),
    "negative places": tensors({"0.weight": {"dtype": "F32", "shape": [6], "data_offsets": [-24, 0]}}, b"1" * 24),
    "shape that does not fit": tensors({"0.weight": {"dtype": "F32", "shape": [8], "data_offsets": [0, 4]}}, b"1" * 4),
    "shape that overflows": tensors({"w": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, b"1" * 4),
    "unknown type": tensors({"0.weight": {"dtype": "OBJ", "shape": [1], "data_offsets": [0, 8]}}, b"1" * 8),
    "overlapping": tensors({n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}, b"1" * 4),
    "path as a name": tensors({"../../etc/x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"1" * 4),
}


@pytest.mark.parametrize("what", HOSTILE_ARRAYS)
def test_hostile_arrays_with_right_checksums_are_refused(tmp_path, what):
    folder = write_checkpoint(tmp_path / "c", example())
    forge(folder, lambda said: None, {"model": HOSTILE_ARRAYS[what]})
    with pytest.raises(StateError):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "..", "a/b", "A", "", "x" * 41, "model\n"])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(tensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"1" * 4))
    folder = write_checkpoint(tmp_path / "c", example())
    entry = {"bytes": outside.stat().st_size, "sha256": hashlib.sha256(outside.read_bytes()).hexdigest()}
    part = {name: {"a": {"$array": "a"}}}
    forge(folder, lambda said: (said["files"].update({name: entry}), said["parts"].update(part)))
    with pytest.raises(StateError):
        read_checkpoint(folder)
    with pytest.raises(StateError, match="a part called"):
        write_checkpoint(tmp_path / "d", {name: {}})


@pytest.mark.parametrize("change", [
    lambda said: said.update(format="minigrad.checkpoint/2"),
    lambda said: said.update(files=[]),
    lambda said: said.update(parts=[]),
    lambda said: said["files"].update(model=3),
    lambda said: said["parts"].pop("model"),
    lambda said: said["parts"].update(model={"$array": ["0.weight"]}),
    lambda said: said["parts"].update(model={"a": {"$array": "absent"}}),
    lambda said: said["parts"].update(numbers={"$float": "1e5"}),
    lambda said: said["parts"].update(numbers={"$pairs": 3}),
    lambda said: said["parts"].update(numbers={"$integer": "__import__('os')"}),
])
def test_forged_states_are_refused(tmp_path, change):
    folder = write_checkpoint(tmp_path / "c", example())
    forge(folder, change)
    with pytest.raises(StateError):
        read_checkpoint(folder)


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b'{"content": {}}', b"[" * 200_000,
                                  b'{"content": NaN, "sha256": ""}'])
def test_a_state_that_is_no_state_is_refused(tmp_path, text):
    folder = write_checkpoint(tmp_path / "c", example())
    (folder / "state.json").write_bytes(text)
    with pytest.raises(StateError, match=r"state\.json"):
        read_checkpoint(folder)


def test_a_state_of_absurd_size_is_not_read(tmp_path):
    folder = write_checkpoint(tmp_path / "c", {"a": {"b": 1}})
    with (folder / "state.json").open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(StateError, match="at most"):
        read_checkpoint(folder)


def test_a_missing_checkpoint_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint folder"):
        read_checkpoint(tmp_path / "nothing")


def test_reading_runs_no_code_and_opens_nothing_else(tmp_path):
    """Pickled instructions in every place stay bytes."""
    bomb = b"cos\nsystem\n(S'touch " + os.fsencode(tmp_path / "ran") + b"'\ntR."
    folder = write_checkpoint(tmp_path / "c", {"part": {"a": np.frombuffer(bomb, np.uint8), "text": bomb.decode()}})
    read = read_checkpoint(folder)
    assert read["part"]["a"].tobytes() == bomb
    (folder / "state.json").write_bytes(bomb)
    with pytest.raises(StateError):
        read_checkpoint(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("make", [
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.Adam(p, lr=0.1, amsgrad=True), optim.AdamW,
])
def test_optimizers_and_averages_survive(tmp_path, make):
    def build():
        model = layers.Sequential(layers.Linear(3, 4), layers.BatchNorm1d(4))
        return model, make(model.parameters()), optim.EMA(model, 0.9)

    def step(model, optimizer, ema, seed):
        x = Tensor(np.random.default_rng(seed).standard_normal((5, 3)).astype(np.float32))
        (model(x) ** 2).sum().backward()
        optimizer.step(); optimizer.zero_grad(); ema.update()

    one, other = build(), build()
    step(*one, 0)
    folder = write_checkpoint(tmp_path / "c", {name: each.state_dict() for name, each in zip("moe", one)})
    read = read_checkpoint(folder)
    for name, each in zip("moe", other):
        each.load_state_dict(read[name])
    step(*one, 1)
    step(*other, 1)
    for mine, theirs in zip(one, other):
        assert pack(mine.state_dict())[0] == pack(theirs.state_dict())[0]
        assert same(pack(mine.state_dict())[1], pack(theirs.state_dict())[1])
    assert set(load_file(folder / "m.safetensors")) == set(one[0].state_dict())
