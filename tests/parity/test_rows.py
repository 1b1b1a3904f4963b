"""Every row of `layer_cases` against PyTorch: results, first and second derivatives, in float64."""

import pytest

torch = pytest.importorskip("torch")

import layer_cases  # noqa: E402
from oracle import TOLERANCE, agree_row  # noqa: E402


@pytest.mark.filterwarnings("ignore:enable_nested_tensor", "ignore:Using padding='same'")
@pytest.mark.parametrize("row", layer_cases.ROWS, ids=str)
def test_as_in_torch(row):
    errors = agree_row(row)
    assert len(errors) == 1 + row.order
    assert max(errors) <= TOLERANCE
