"""Transforms: against loops over single pictures; chance depends on (seed, epoch, sample) alone."""

import numpy as np
import pytest

from minigrad.data import (
    Cutout,
    DataLoader,
    Normalize,
    RandomCrop,
    RandomFlip,
    Subset,
    TensorDataset,
    Transformed,
    random_split,
)
from minigrad.errors import ArgumentError, ShapeError

RNG = np.random.default_rng(0)
IMAGES = RNG.random((5, 3, 6, 7)).astype(np.float32)


def draws(transform, n=5):
    return RNG.random((n, transform.draws))


def test_normalize():
    y = Normalize([0.1, 0.2, 0.3], 0.5)(IMAGES, draws(Normalize(0, 1)))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y[:, 1], (IMAGES[:, 1] - 0.2) / 0.5, rtol=1e-6)
    with pytest.raises(ShapeError, match="3 channels"):
        Normalize([1, 2], 1)(IMAGES, draws(Normalize(0, 1)))


def test_crop():
    crop = RandomCrop(2)
    chance = draws(crop)
    y = crop(IMAGES, chance)
    for image, got, (top, left) in zip(IMAGES, y, (chance * 5).astype(int)):
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)))
        np.testing.assert_array_equal(got, padded[:, top : top + 6, left : left + 7])
    assert y.shape == IMAGES.shape
    assert y.dtype == np.float32


def test_flip():
    y = RandomFlip()(IMAGES, np.array([[0.1], [0.9], [0.49], [0.5], [0.0]]))
    for i, flipped in enumerate([True, False, True, False, True]):
        np.testing.assert_array_equal(y[i], IMAGES[i, ..., ::-1] if flipped else IMAGES[i])


def test_cutout():
    cut = Cutout(3)
    chance = draws(cut)
    y = cut(IMAGES, chance)
    for image, got, (a, b) in zip(IMAGES, y, chance):
        wanted = image.copy()
        top, left = int(a * 6) - 1, int(b * 7) - 1
        wanted[:, max(0, top) : top + 3, max(0, left) : left + 3] = 0
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("transform", [Normalize(0.5, 2), RandomCrop(1), RandomFlip(), Cutout(2)])
def test_inputs_stay_as_they_are(transform):
    kept = IMAGES.copy()
    transform(IMAGES, draws(transform))
    np.testing.assert_array_equal(IMAGES, kept)
    with pytest.raises(ShapeError, match="channels"):
        transform(IMAGES[0], draws(transform))


def every(data, epoch, indices):
    return data.batch_in_epoch(indices, epoch)[0]


def test_a_samples_change_depends_on_seed_epoch_and_sample_alone():
    data = TensorDataset(IMAGES, np.arange(5))
    one = Transformed(data, [RandomCrop(2), RandomFlip(), Cutout(2)], seed=4)
    other = Transformed(data, [RandomCrop(2), RandomFlip(), Cutout(2)], seed=4)
    whole = every(one, 7, range(5))
    for i in (3, 0, 4):
        np.testing.assert_array_equal(every(other, 7, [i])[0], whole[i])
        every(other, 8, [i])  # another epoch in between
    assert not np.array_equal(every(one, 8, range(5)), whole)
    assert not np.array_equal(every(Transformed(data, one.transforms, seed=5), 7, range(5)), whole)
    np.testing.assert_array_equal(one[2][0], every(one, 0, [2])[0])
    np.testing.assert_array_equal(one.batch([1])[0], every(one, 0, [1]))


def test_parts_of_a_transformed_set_and_transforms_of_a_part():
    data = TensorDataset(IMAGES, np.arange(5))
    changed = Transformed(data, [RandomFlip()], seed=1)
    part = Subset(changed, [4, 2])
    np.testing.assert_array_equal(every(part, 3, [0, 1]), every(changed, 3, [4, 2]))
    kept, _ = random_split(data, [3, 2], seed=0)
    again = Transformed(kept, [RandomFlip()], seed=1)
    assert len(again) == 3
    assert every(again, 1, [0, 1, 2]).shape == (3, 3, 6, 7)


@pytest.mark.parametrize("workers", [1, 4])
def test_the_loader_gives_the_same_whatever_the_workers(workers):
    data = TensorDataset(RNG.random((64, 1, 4, 4)).astype(np.float32), np.arange(64))

    def batches(workers):
        changed = Transformed(data, [RandomCrop(1), RandomFlip()], seed=2)
        loader = DataLoader(changed, 5, shuffle=True, seed=3, workers=workers)
        return [x.numpy().tobytes() for _ in range(3) for batch in loader for x in batch]

    assert batches(0) == batches(workers)


@pytest.mark.parametrize("make", [
    lambda: Normalize(0, 0), lambda: Normalize([1, 2], [1, -1]), lambda: RandomCrop(0), lambda: Cutout(0),
    lambda: Transformed(TensorDataset(IMAGES), [], seed=-1),
])
def test_options_out_of_range_are_refused(make):
    with pytest.raises(ArgumentError):
        make()
