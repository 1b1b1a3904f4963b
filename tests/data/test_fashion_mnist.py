"""Fashion-MNIST: the subset against its digests, the full set against files made here."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from minigrad.data import DataLoader, FashionMNIST, fashion_mnist
from minigrad.errors import StateError

# SHA-256 of the arrays' bytes, computed from the original files: images[i] and labels[i] for i, in rising
# order, the first 1,000 (training) and the first 200 (test) positions of each class.
DIGESTS = {
    True: (
        "e1427044c614fabc29feeff0f27e6b68f88a9ee2f2cfe7d783b9157159864883",
        "2c02745d4ad8b4511333d0eca662ac5664a371860abaa4588b1670e7be59fbdf",
    ),
    False: (
        "96315b1732ab731e68b8def3c284f34b605f7deb7a61e683c7d786265c827c83",
        "b2095bc797d1201e84da76c94012c02d0e6f07af0938df4e00120a3b42d1aa4c",
    ),
}


def digest(array):
    return hashlib.sha256(array.tobytes()).hexdigest()


@pytest.mark.parametrize(("train", "count"), [(True, 10_000), (False, 2_000)])
def test_the_subset_is_what_it_says(train, count):
    data = FashionMNIST(train)
    assert data.images.shape == (count, 1, 28, 28)
    assert data.images.dtype == np.float32
    assert data.labels.shape == (count,)
    assert data.labels.dtype == np.int64
    assert data.images.min() == 0
    assert data.images.max() == 1
    assert np.bincount(data.labels).tolist() == [count // 10] * 10
    pixels = np.rint(data.images * 255).astype(np.uint8)
    assert (digest(pixels), digest(data.labels.astype(np.uint8))) == DIGESTS[train]
    assert "subset" in data.source
    assert str(count) in data.source


def test_the_loader_takes_it():
    data = FashionMNIST(train=False)
    x, y = next(iter(DataLoader(data, batch_size=32)))
    np.testing.assert_array_equal(x.numpy(), data.images[:32])
    np.testing.assert_array_equal(y.numpy(), data.labels[:32])


def test_the_licence_lies_beside_the_data():
    notice = fashion_mnist.SUBSET.with_name("fashion_mnist.LICENSE.txt").read_text(encoding="utf-8")
    assert "The MIT License" in notice
    assert "Zalando" in notice


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def originals(tmp_path, monkeypatch):
    """A folder with four small IDX files that pass for the originals, half of them compressed."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "files"
    folder.mkdir()
    content = {}
    for part, count in (("train", 5), ("t10k", 3)):
        content[part] = rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count, np.uint8)
        for kind, array in zip(("images-idx3", "labels-idx1"), content[part], strict=True):
            name, data = f"{part}-{kind}-ubyte", idx(array)
            monkeypatch.setitem(fashion_mnist.SHA256, name, hashlib.sha256(data).hexdigest())
            if part == "train":
                (folder / f"{name}.gz").write_bytes(gzip.compress(data))
            else:
                (folder / name).write_bytes(data)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)
    return folder, content


@pytest.mark.parametrize(("train", "part"), [(True, "train"), (False, "t10k")])
def test_the_full_set_from_a_folder(originals, train, part):
    folder, content = originals
    data = FashionMNIST(train, folder=folder)
    np.testing.assert_array_equal(data.images[:, 0], content[part][0].astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(data.labels, content[part][1])
    assert data.images.dtype == np.float32
    assert str(folder) in data.source
    assert "full" in data.source


def test_the_full_set_from_the_environment_comes_before_debian(originals, monkeypatch):
    folder, _ = originals
    own = folder.parent / "own"
    own.mkdir()
    folder.rename(own / "fashion-mnist")
    monkeypatch.setenv("MINIGRAD_DATA", str(own))
    assert str(own / "fashion-mnist") in FashionMNIST(full=True).source
    monkeypatch.setenv("MINIGRAD_DATA", str(own / "fashion-mnist"))
    assert str(own / "fashion-mnist") in FashionMNIST(full=True).source
    monkeypatch.delenv("MINIGRAD_DATA")
    monkeypatch.setattr(fashion_mnist, "DEBIAN", own / "fashion-mnist")
    assert str(own / "fashion-mnist") in FashionMNIST(full=True).source


def test_the_environment_alone_does_not_change_the_default(originals, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(originals[0]))
    assert len(FashionMNIST()) == 10_000


def test_a_missing_full_set_names_every_place_and_a_way_out(originals, monkeypatch):
    empty = originals[0].parent
    monkeypatch.setenv("MINIGRAD_DATA", str(empty))
    with pytest.raises(FileNotFoundError) as caught:
        FashionMNIST(full=True)
    places = [str(empty / "fashion-mnist"), str(empty / "debian")]
    for said in [*places, "train-images-idx3-ubyte", "folder=", "dataset-fashion-mnist", "subset"]:
        assert said in str(caught.value)
    with pytest.raises(FileNotFoundError) as caught:
        FashionMNIST(folder=empty)
    assert str(empty / "debian") not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"neither (train-images-idx3-ubyte) nor \1\.gz in"):
        fashion_mnist.read_full(empty, "train")


def test_changed_content_is_refused(originals):
    folder, _ = originals
    path = folder / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(StateError, match=r"t10k-labels-idx1-ubyte: got SHA-256 .*; wanted the original"):
        FashionMNIST(train=False, folder=folder)


@pytest.mark.skipif(not fashion_mnist.DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_full_set_begins_each_class_like_the_subset():
    full, part = FashionMNIST(train=False, full=True), FashionMNIST(train=False)
    assert len(full) == 10_000
    for label in range(10):
        first = full.images[full.labels == label][:200]
        np.testing.assert_array_equal(first, part.images[part.labels == label])
