"""The demonstrations of the normalizations: they run, and say what they measured."""

from pathlib import Path

import pytest

from minigrad.examples import discrepancy, exactness, sharing

ROOT = Path(__file__).resolve().parents[2]


def test_exactness_of_every_member(capsys):
    exactness.main([])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    assert rows[0][2:] == ["order 1", "order 2", "order 3", "order 4", "jvp of jvp"]
    assert [row[0] for row in rows[2:]] == [member.name for member in exactness.MEMBERS]
    for row in rows[2:]:
        assert max(float(cell) for cell in row[2:]) < 1e-12


def test_what_differs_is_printed(monkeypatch):
    """The table is only as good as its sight: a third derivative that is wrong, and a framework that refuses."""

    class Wrong(exactness.Minigrad):
        def grad(self, ys, xs, us):
            self.calls = getattr(self, "calls", 0) + 1
            found = super().grad(ys, xs, us)
            return [g if g is None or self.calls != 3 else g * 1.5 for g in found]

        def nested(self, *args):
            raise NotImplementedError

    found = exactness.measured(Wrong(), exactness.MEMBERS[0])
    assert float(found[0]) < 1e-12
    assert float(found[1]) < 1e-12
    assert found[2] == "**50%**"
    assert found[4] == "NotImplementedError"


def test_discrepancy_is_measured_and_repaired(capsys):
    discrepancy.main(["--tiny"])
    said = capsys.readouterr().out
    assert said.count("end to end") == 2
    before, after = said.split("after recalibrate")
    assert "recalibrate(model, batches)" in before
    assert "→" in after
    assert "recalibrate(model, batches)" not in after


def test_figures(tmp_path, capsys):
    sharing.main([])
    said = capsys.readouterr().out
    assert all(type(layer).__name__ in said for layer in sharing.MEMBERS.values())
    sharing.main(["--svg", str(tmp_path)])
    for path in tmp_path.iterdir():  # the figures of the documentation are those of the code
        assert (ROOT / "docs" / "figures" / path.name).read_text(encoding="utf-8") == path.read_text(encoding="utf-8")
    assert len(list(tmp_path.iterdir())) == len(sharing.MEMBERS)
    with pytest.raises(SystemExit):
        sharing.main(["--unknown"])
