"""Data sets from files made here: MNIST, CIFAR-10 without unpickling, CSV; and that files are only read."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest

from minigrad.data import CIFAR10, MNIST, CSVDataset, DataLoader, cifar10, mnist
from minigrad.data.pickled import read_pickle
from minigrad.errors import ArgumentError, ShapeError, StateError

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_folder(monkeypatch):
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_mnist(tmp_path, monkeypatch, packed):
    images, labels = RNG.integers(0, 256, (4, 28, 28), np.uint8), RNG.integers(0, 10, 4, np.uint8)
    for name in mnist.SHA256:
        data = idx(images if "images" in name else labels)
        monkeypatch.setitem(mnist.SHA256, name, hashlib.sha256(data).hexdigest())
        path = tmp_path / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(data) if packed else data)
    found = MNIST(folder=tmp_path)
    np.testing.assert_array_equal(found.images[:, 0], images.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(found.labels, labels)
    assert str(tmp_path) in found.source
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    assert len(MNIST(train=False)) == 4
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StateError):
        MNIST(train=False)


def test_what_is_missing_is_said_with_ways_to_get_it(tmp_path):
    for kind, name in ((MNIST, "mnist"), (CIFAR10, "cifar10")):
        with pytest.raises(FileNotFoundError, match=rf"minigrad data {name} FOLDER"):
            kind(folder=tmp_path)
        with pytest.raises(FileNotFoundError, match=r"\$MINIGRAD_DATA"):
            kind()


def python2_pickle(pixels, labels):
    """The instructions by which Python 2 wrote the original files."""
    out = bytearray(b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05(")
    out += b"".join(b"K" + bytes([label]) for label in labels)
    out += b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85q\x09U\x01bq\x0a"
    out += b"\x87q\x0bRq\x0c(K\x01K" + bytes([len(pixels)]) + b"M\x00\x0c\x86cnumpy\ndtype\nq\x0dU\x02u1q\x0eK\x00K\x01"
    out += b"\x87q\x0fRq\x10(K\x03U\x01|q\x11NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbq\x12\x89T"
    out += struct.pack("<i", pixels.size) + pixels.tobytes() + b"q\x13tbU\x09filenamesq\x14]q\x15U\x05a.pngau."
    return bytes(out)


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A folder with an archive and one with its content, and what they hold."""
    archive = io.BytesIO()
    held = {}
    packed, unpacked = tmp_path / "packed", tmp_path / "unpacked" / "cifar10"
    packed.mkdir()
    (unpacked / cifar10.UNPACKED).mkdir(parents=True)
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name in cifar10.MD5:
            pixels, labels = RNG.integers(0, 256, (3, 3072), np.uint8), RNG.integers(0, 10, 3).tolist()
            data = python2_pickle(pixels, labels)
            held[name] = pixels.reshape(3, 3, 32, 32), labels
            monkeypatch.setitem(cifar10.MD5, name, hashlib.md5(data, usedforsecurity=False).hexdigest())
            (unpacked / cifar10.UNPACKED / name).write_bytes(data)
            member = tarfile.TarInfo(f"{cifar10.UNPACKED}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    monkeypatch.setattr(cifar10, "ARCHIVE_SHA256", hashlib.sha256(archive.getvalue()).hexdigest())
    (packed / cifar10.ARCHIVE).write_bytes(archive.getvalue())
    return packed, unpacked.parent, held


@pytest.mark.parametrize("kind", [0, 1], ids=["archive", "folder"])
def test_cifar10(cifar, kind):
    place, held = cifar[kind], cifar[2]
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    train, test = CIFAR10(folder=place), CIFAR10(False, folder=place)
    assert CIFAR10.found(place)
    assert len(train) == 15
    np.testing.assert_array_equal(train.pixels, np.concatenate([held[name][0] for name in cifar10.TRAIN]))
    np.testing.assert_array_equal(test.labels, held["test_batch"][1])
    (x, y), = DataLoader(test, 3)
    np.testing.assert_array_equal(x.numpy(), held["test_batch"][0].astype(np.float32) / np.float32(255))
    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(test[1][0], x.numpy()[1])
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_changed_cifar_files_are_refused(cifar):
    archive = cifar[0] / cifar10.ARCHIVE
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    with pytest.raises(StateError, match="SHA-256"):
        CIFAR10(folder=cifar[0])
    (cifar[1] / "cifar10" / cifar10.UNPACKED / "data_batch_2").write_bytes(b"x")
    with pytest.raises(StateError, match="MD5"):
        CIFAR10(folder=cifar[1])
    assert not CIFAR10.found(cifar[0] / "nothing")


@pytest.mark.parametrize("protocol", [2, 3])
def test_pickles_of_plain_data_are_read_as_pickle_reads_them(protocol):
    array = RNG.integers(0, 256, (4, 5), np.uint8)
    plain = {"a": [1, -2, 300, 70_000, 2.5, None, True, False, "text"], "t": (), "u": ("x",), "v": (1, 2, (3, 4, 5, 6)),
             "data": array, "again": [array, array], "fortran": np.asfortranarray(array), "b": b"bytes", "empty": {}}
    found = read_pickle(pickle.dumps(plain, protocol=protocol))
    assert list(found) == list(plain)
    for key in ("data", "fortran"):
        np.testing.assert_array_equal(found.pop(key), plain.pop(key))
    np.testing.assert_array_equal(found.pop("again"), plain.pop("again"))
    assert found == plain


class Bomb:
    def __init__(self, call, *arguments):
        self.call = call, arguments

    def __reduce__(self):
        return self.call


def test_no_pickle_runs_anything(tmp_path):
    witness = tmp_path / "ran"
    bombs = [Bomb(os.system, f"touch {witness}"), Bomb(eval, f"open({str(witness)!r}, 'w')"), Bomb(print, "x"),
             {"data": [Bomb(exec, "1")]}, np.zeros(2, np.float32), {1, 2}, Bomb(getattr, "a", "b"), np.uint8, object()]
    for bomb in bombs:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(StateError):
                read_pickle(pickle.dumps(bomb, protocol=protocol))
    assert not witness.exists()


def test_damaged_pickles_are_refused():
    data = python2_pickle(RNG.integers(0, 256, (3, 3072), np.uint8), [1, 2, 3])
    for length in (0, 1, 2, 5, 30, 100, 200, len(data) - 1):
        with pytest.raises(StateError):
            read_pickle(data[:length])
    rng = np.random.default_rng(1)
    for _ in range(300):
        changed = bytearray(data)
        changed[rng.integers(300)] = rng.integers(256)
        try:
            read_pickle(bytes(changed))
        except StateError:
            continue


def test_csv_of_digits(tmp_path):
    digits, labels = RNG.integers(0, 17, (6, 64)), [3, 1, 4, 1, 5, 9]
    rows = "\n".join(",".join(map(str, [*row, label])) for row, label in zip(digits, labels))
    for name, data in (("digits.csv", rows.encode()), ("digits.csv.gz", gzip.compress(rows.encode() + b"\n\n"))):
        (tmp_path / name).write_bytes(data)
        found = CSVDataset(tmp_path / name, shape=(1, 8, 8))
        np.testing.assert_array_equal(found.features, digits.reshape(6, 1, 8, 8))
        assert found.features.dtype == np.float32
        assert [found.classes[label] for label in found.labels] == [str(label) for label in labels]
        assert found.classes == ("1", "3", "4", "5", "9")
        assert found.columns == ()


def test_csv_with_headings_and_other_separators(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("\ufeffkind; a ;b\nyes;1;2e1\nno; 3 ;-4\n", encoding="utf-8")
    found = CSVDataset(path, "kind", delimiter=";")
    assert found.columns == ("a", "b")
    assert found.features.tolist() == [[1, 20], [3, -4]]
    assert found.labels.tolist() == [1, 0]
    assert CSVDataset(path, 0, delimiter=";").columns == ("a", "b")


@pytest.mark.parametrize(("text", "options", "error", "said"), [
    ("1,2\n3\n", {}, StateError, "line 2: got 1 cells"),
    ("1,2\n3,x\nfour,5\n", {}, StateError, "line 3, feature 1: got 'four'"),
    ("1,2\nnan,3\n", {}, StateError, "line 2, feature 1: got 'nan'"),
    ("", {}, StateError, "no rows"),
    ("a,b\n", {"target": "b"}, StateError, "headings alone"),
    ("1\n2\n", {}, StateError, "at least|features and a label"),
    ("1,2\n", {"target": "x"}, ArgumentError, "target='x'"),
    ("1,2\n", {"target": 2}, ArgumentError, "target=2"),
    ("1,2,3\n", {"shape": (3,)}, ShapeError, "2 features"),
])
def test_csv_errors_name_the_place(tmp_path, text, options, error, said):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(error, match=said):
        CSVDataset(path, **options)


def test_csv_that_is_no_text_or_not_there(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"1,2\n\xff,3\n")
    with pytest.raises(StateError, match="UTF-8"):
        CSVDataset(tmp_path / "x.csv")
    (tmp_path / "x.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(StateError, match="compressed"):
        CSVDataset(tmp_path / "x.csv.gz")
    with pytest.raises(FileNotFoundError):
        CSVDataset(tmp_path / "y.csv")
