"""The figure of what shares a statistic: checked against the statistics themselves, by changing one element."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from minigrad import Tensor
from minigrad.errors import ArgumentError, ShapeError
from minigrad.layers import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    InstanceNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    LayerNorm,
    Linear,
    LocalResponseNorm,
    RMSNorm,
    draw_sharing,
    sharing_mask,
)

MEMBERS = [
    (BatchNorm1d(3, affine=False), (4, 3)), (BatchNorm1d(3), (4, 3, 2)), (BatchNorm2d(3), (2, 3, 2, 2)),
    (BatchNorm3d(2), (2, 2, 1, 2, 2)), (LayerNorm(4), (3, 4)), (LayerNorm((3, 2)), (2, 3, 2)),
    (LayerNorm(2), (2, 3, 2)),
    (GroupNorm(2, 4), (2, 4, 3)), (GroupNorm(1, 4), (3, 4)), (GroupNorm(2, 6), (2, 6, 2, 2)),
    (InstanceNorm1d(3), (2, 3, 4)), (InstanceNorm2d(2), (2, 2, 2, 3)), (RMSNorm(3), (2, 2, 3)),
    (InstanceNorm1d(3), (3, 4)), (InstanceNorm2d(2), (2, 2, 3)), (LayerNorm(4), (4,)), (RMSNorm(3), (3,)),
    (LocalResponseNorm(3, 1.0), (2, 6, 2)), (LocalResponseNorm(4, 1.0), (1, 7)),
]


@pytest.mark.parametrize(("layer", "shape"), MEMBERS, ids=lambda m: m if isinstance(m, tuple) else type(m).__name__)
def test_the_marked_elements_are_those_that_matter(layer, shape):
    """The output at one place depends on exactly the elements that are marked for it."""
    x = np.random.default_rng(0).normal(size=shape)
    for of in {tuple(np.random.default_rng(s).integers(0, shape)) for s in range(4)}:
        leaf = Tensor(x, requires_grad=True)
        layer(leaf)[tuple(int(i) for i in of)].backward()
        np.testing.assert_array_equal(np.abs(leaf.grad.numpy()) > 1e-12, sharing_mask(layer, shape, of))


def test_text():
    assert draw_sharing(GroupNorm(2, 4), (2, 4, 2)) == """\
GroupNorm on (2, 4, 2): 4 elements share a statistic, 4 statistics
example 0  place 0   A  A [B][B]
           place 1   A  A [B][B]
example 1  place 0   C  C  D  D
           place 1   C  C  D  D"""
    assert draw_sharing(LayerNorm(2), (1, 3, 2)) == """\
LayerNorm on (1, 3, 2): 2 elements share a statistic, 3 statistics
example 0  feature 0   A  B [C]
           feature 1   A  B [C]"""
    assert draw_sharing(LocalResponseNorm(3), (1, 5)) == """\
LocalResponseNorm on (1, 5): an element and its neighbours, 3 channels
example 0   · [x][x][x] ·"""
    assert draw_sharing(BatchNorm1d(3), (2, 3), of=(0, 0)).splitlines()[1] == "example 0  [A] B  C"


def test_long_axes_are_shown_in_part():
    text = draw_sharing(BatchNorm2d(64), (32, 64, 56, 56), of=(5, 17, 3, 3))
    assert "100352 elements share a statistic, 64 statistics" in text
    assert "channel 0, 9, 17, 27" in text
    assert len(text.splitlines()) == 2 + 8 * 8
    assert len({line.index("[") for line in text.splitlines()[1:-1]}) == 1  # columns stand below each other
    assert text.count("[") == 8 * 8
    assert "neighbours" in draw_sharing(LocalResponseNorm(5), (1, 100))


@pytest.mark.parametrize(("layer", "shape"), MEMBERS, ids=lambda m: m if isinstance(m, tuple) else type(m).__name__)
def test_svg_marks_the_visible_faces_of_the_set(layer, shape):
    svg = draw_sharing(layer, shape, format="svg")
    block = sharing_mask(layer, shape)
    if len(shape) == 1 or (isinstance(layer, InstanceNorm) and len(shape) == layer.ranks[0] - 1):
        shape = (1, *shape)  # a single example
    root = ET.fromstring(svg)
    faces = [e for e in root if e.tag.endswith("polygon")]
    n, c, p = shape[0], shape[1], int(np.prod(shape[2:]))
    assert len(faces) == n * c + n * p + c * p
    block = block.reshape(n, c, p)
    marked = sum(" in" in e.get("class") for e in faces)
    assert marked == block[:, :, 0].sum() + block[:, -1].sum() + block[0].sum() > 0
    texts = "".join(e.text or "" for e in root if e.tag.endswith("text"))
    assert type(layer).__name__ in texts
    width = float(root.get("width"))
    for face in faces:
        assert all(0 <= float(point.split(",")[0]) <= width for point in face.get("points").split())


def test_refusals():
    with pytest.raises(ArgumentError, match="a Linear"):
        draw_sharing(Linear(2, 2), (2, 2))
    with pytest.raises(ArgumentError, match="format"):
        draw_sharing(BatchNorm1d(2), (2, 2), format="png")
    with pytest.raises(ShapeError, match="C = 2"):
        draw_sharing(BatchNorm1d(2), (2, 3))
    with pytest.raises(ShapeError, match="last axes"):
        sharing_mask(LayerNorm(2), (2, 3))
    for layer, shape in ((BatchNorm1d(3), (3,)), (LayerNorm(3), ()), (BatchNorm2d(3), (0, 3, 2, 2))):
        with pytest.raises(ShapeError, match=r"wanted (one axis|an input)"):
            sharing_mask(layer, shape)
    with pytest.raises(ShapeError, match=r"of=\(3,\) for shape \(3,\)"):
        sharing_mask(LayerNorm(3), (3,), of=(3,))
    with pytest.raises(ShapeError, match="of="):
        sharing_mask(BatchNorm1d(2), (2, 2), of=(2, 0))
