"""docs/normalization.md: its examples run, and what it names exists."""

import doctest
import re
from pathlib import Path

from minigrad import layers
from minigrad.examples import exactness

PAGE = Path(__file__).resolve().parents[2] / "docs" / "normalization.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_examples():
    code = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
    test = doctest.DocTestParser().get_doctest(code, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 5
    assert doctest.DocTestRunner().run(test).failed == 0


def test_figures_and_names():
    for figure in re.findall(r"\]\((figures/[^)]+)\)", TEXT):
        assert (PAGE.parent / figure).is_file()
    for name in ("freeze", "recalibrate", "fold", "discrepancy", "draw_sharing", "batch_norm_from_keras"):
        assert name in TEXT
        assert hasattr(layers, name)


def test_the_table_has_every_member_and_ours_are_exact():
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in TEXT.splitlines() if "| minigrad " in line]
    assert [row[0] for row in rows] == [member.name for member in exactness.MEMBERS]
    assert all(float(cell) < 1e-12 for row in rows for cell in row[2:])
