"""The page about operations of one's own: its code runs, in order, and what it asserts holds."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "your-own-op.md"


def test_the_example_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 3
    names = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102 - the page's own code
    assert len(names["errors"]) == 3


def test_the_page_is_right_about_the_row():
    """The row that the page shows, run as the table would."""
    import cases
    import numpy as np

    names = {}
    exec(re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1], names)  # noqa: S102
    row = re.search(r"`(Case\(.*?\))`\.", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1].replace("ops.swish", "swish")
    case = eval(row, {**vars(cases), "swish": names["swish"]})  # noqa: S307
    arrays = case.draw()
    assert cases.relative(case.call(*arrays), case.reference(*arrays)) <= 1e-14
    assert case.elementwise
    assert np.shape(case.call(*arrays)) == (3, 4)
