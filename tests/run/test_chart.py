"""Charts: points stand where the axes say, curves lose nothing that shows, labels do not overlap."""

import itertools
import math
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from minigrad.run.chart import Chart, Marker, Reference, Series, moving_mean
from minigrad.run.placing import Box, along, place, spread, text_width
from minigrad.run.scale import Scale, data_range, tick_labels
from minigrad.run.style import DARK, LIGHT
from minigrad.run.svg import chart_svg

NASTY = "<b a=\"1\" c='2'>&amp; größe 正</script>\x1b"
SHOWN = NASTY.replace("\x1b", "\ufffd")


def parse(chart: Chart, **options: object) -> ET.Element:
    return ET.fromstring(chart_svg(chart, **options))


def with_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [each for each in root.iter() if name in each.get("class", "").split()]


def corners(path: ET.Element) -> np.ndarray:
    """The corners of a path of M and L commands, shape (n, 2)."""
    return np.array(re.findall(r"[ML](-?[\d.]+),(-?[\d.]+)", path.get("d")), dtype=np.float64)


def axis(root: ET.Element, name: str, log: bool = False) -> tuple[float, float]:
    """Offset and slope from value to position, fitted to the ticks as they are written and drawn."""
    ticks = with_class(root, name)
    ticks = [each for each in ticks if "tick" in each.get("class").split()]
    values = [float(each.text.replace(",", "").replace(" %", "")) for each in ticks]
    if name == "x":
        # Labels at the edges are moved inwards; the tick itself is the little line before its label.
        parts = [each for each in root.iter() if re.search(r"v5$", each.get("d", ""))]
        at = [float(re.match(r"M([\d.]+)", each.get("d"))[1]) for each in parts]
    else:
        at = [float(each.get("y")) - 4.5 for each in ticks]
    slope, offset = np.polyfit(np.log10(values) if log else values, at, 1)
    return offset, slope


def test_points_stand_where_the_ticks_say() -> None:
    x, y = [0, 10, 25, 100], [3.0, -1.0, 0.5, 2.0]
    root = parse(Chart("t", "x", "y", [Series("a", x, y), Series("b", x[:2], y[2:])]))
    (x_offset, x_slope), (y_offset, y_slope) = axis(root, "x"), axis(root, "y")
    assert x_slope > 0 > y_slope
    first, second = (corners(each) for each in with_class(root, "line"))
    expected = np.stack([x_offset + x_slope * np.array(x), y_offset + y_slope * np.array(y)], axis=1)
    np.testing.assert_allclose(first, expected, atol=0.03)
    np.testing.assert_allclose(second[:, 0], expected[:2, 0], atol=0.03)


def test_points_stand_where_the_formula_says() -> None:
    x, y = np.array([0.0, 10, 25, 100]), np.array([3.0, -1.0, 0.5, 2.0])
    root = parse(Chart("t", "x", "y", [Series("a", x, y)], y_range=(-2, 4)))
    left, right, top, bottom, x0, x1, y0, y1, log = map(float, root.get("data-scale")[1:-1].split(","))
    assert (x0, x1, y0, y1, log) == (0, 100, -2, 4, 0)
    expected = [left + x / 100 * (right - left), bottom - (y + 2) / 6 * (bottom - top)]
    np.testing.assert_allclose(corners(with_class(root, "line")[0]).T, expected, atol=0.006)


def test_a_logarithmic_axis_is_even_in_powers() -> None:
    y = [1.0, 0.1, 0.01, 0.001, 0.0, -1.0]
    root = parse(Chart("t", "x", "y", [Series("a", range(6), y)], log_y=True))
    offset, slope = axis(root, "y", log=True)
    drawn = corners(with_class(root, "line")[0])
    np.testing.assert_allclose(drawn[:, 1], offset + slope * np.array([0, -1, -2, -3.0]), atol=0.05)


def test_percentages_are_written_on_ticks_and_at_the_ends() -> None:
    root = parse(Chart("t", "x", "y", [Series("a", [0, 1], [0.5, 0.8124])], percent=True))
    assert [each.text for each in with_class(root, "y")] == [f"{n} %" for n in range(50, 85, 5)]
    assert [each.text for each in with_class(root, "name")] == ["a 81.2 %"]


def test_values_that_are_not_finite_interrupt_the_line() -> None:
    y = [1.0, 2.0, math.nan, 3.0, math.inf, 4.0, 5.0, math.nan]
    root = parse(Chart("t", "x", "y", [Series("a", range(8), y)]))
    path = with_class(root, "line")[0].get("d")
    assert "nan" not in ET.tostring(root, encoding="unicode").split("<desc")[0]
    assert re.sub(r"[-\d.]+,[-\d.]+", "", path) == "MLMh0ML"
    assert [each.text for each in with_class(root, "name")] == ["a (not finite)"]


@pytest.mark.parametrize("series", [[], [Series("a", [], [])], [Series("a", [0, 1], [math.nan] * 2)]])
@pytest.mark.parametrize("log_y", [False, True])
def test_a_chart_without_values_says_so(series: list[Series], log_y: bool) -> None:
    root = parse(Chart("t", "x", "y", series, log_y=log_y))
    assert "no finite values" in [each.text for each in root.iter("text")]


@pytest.mark.parametrize("y", [[5.0], [0.0], [-3.0], [1e-9], [1e12]])
def test_one_point_gets_an_axis_around_it(y: list[float]) -> None:
    root = parse(Chart("t", "x", "y", [Series("a", [3], y)]))
    left, right, top, bottom, *_ = map(float, root.get("data-scale")[1:-1].split(","))
    at = corners(with_class(root, "line")[0])[0]
    assert left < at[0] < right
    assert top < at[1] <= bottom


def test_long_curves_keep_every_extreme_of_the_picture() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=50_000)
    y[31_111], y[44_444] = 9.0, -8.0
    root = parse(Chart("t", "x", "y", [Series("a", np.arange(50_000), y)]))
    drawn = corners(with_class(root, "line")[0])
    assert len(drawn) < 4000
    scale = [float(each) for each in root.get("data-scale")[1:-1].split(",")]
    position = Scale(scale[6], scale[7], scale[3], scale[2])
    np.testing.assert_allclose([drawn[:, 1].min(), drawn[:, 1].max()], position(np.array([9.0, -8.0])), atol=0.01)
    np.testing.assert_allclose(drawn[[0, -1], 1], position(y[[0, -1]]), atol=0.01)


def test_smoothing_is_the_mean_over_neighbours_and_keeps_the_points_behind() -> None:
    y = np.array([1.0, 2, 3, np.nan, 5, 6])
    np.testing.assert_allclose(moving_mean(y, 3), [1.5, 2, 2.5, np.nan, 5.5, 5.5])
    np.testing.assert_array_equal(moving_mean(y, 1), y)
    chart = Chart("t", "x", "y", [Series("a", range(6), y)], smooth=3)
    np.testing.assert_allclose(chart.curve(0)[1], moving_mean(y, 3))
    root = parse(chart)
    raw, line = with_class(root, "raw")[0], with_class(root, "line")[0]
    assert raw.get("d") != line.get("d")
    assert raw.get("d") == with_class(parse(Chart("t", "x", "y", chart.series)), "line")[0].get("d")


def test_references_and_markers_stand_at_their_values() -> None:
    series = [Series("none", [0, 50, 100], [0.1, 0.6, 0.8]), Series("batch", [0, 50, 100], [0.1, 0.85, 0.9])]
    chart = Chart(
        "t",
        "x",
        "y",
        series,
        references=[Reference(0.8, "best of none"), Reference(20, "warm-up", "x")],
        markers=[Marker("none", 100, 0.8, "step 100"), Marker("batch", 50, 0.85, "step 50")],
    )
    root = parse(chart)
    (x_offset, x_slope), (y_offset, y_slope) = axis(root, "x"), axis(root, "y")
    level, start = (corners(each) for each in with_class(root, "reference"))
    np.testing.assert_allclose(level[:, 1], y_offset + y_slope * 0.8, atol=0.03)
    np.testing.assert_allclose(start[:, 0], x_offset + x_slope * 20, atol=0.03)
    rings = [(float(each.get("cx")), float(each.get("cy"))) for each in with_class(root, "ring")]
    np.testing.assert_allclose(rings, [corners(each)[at] for each, at in zip(with_class(root, "line"), (2, 1))])
    texts = [each.text for each in root.iter("text")]
    assert {"best of none", "warm-up", "step 100", "step 50"} <= set(texts)


def boxes(root: ET.Element) -> list[Box]:
    """About where each text of a picture stands: 0.5 em per letter, which is narrow rather than wide."""
    found = []
    for each in root.iter("text"):
        width = 0.5 / 0.6 * text_width(each.text, 13)
        kinds = each.get("class").split()
        shift = width if "end" in kinds else width / 2 if "middle" in kinds else 0
        found.append(Box(float(each.get("x")) - shift, float(each.get("y")) - 10, width, 12))
    return found


@pytest.mark.parametrize("width", [360, 920])
@pytest.mark.parametrize("seconds", [1.0, 0.5])
def test_labels_neither_overlap_nor_leave_the_picture(width: int, seconds: float) -> None:
    steps = np.arange(0, 50_001, 1000)
    curves = [0.88 - 0.7 * np.exp(-steps / tau) for tau in (12_000, 9_000, 1_500)]
    names = ["none", "layer", "batch"]
    series = [Series(n, steps * s, y) for n, s, y in zip(names, (seconds, 0.8, 1.0), curves)]
    best = float(curves[0].max())
    markers = [Marker(each.name, each.reaches(best), best, f"{each.name}: {each.reaches(best):,}") for each in series]
    chart = Chart("t", "steps", "accuracy", series, [Reference(best, "best of none: 86.9 %")], markers, percent=True)
    found = boxes(parse(chart, width=width, height=400 if width > 500 else 330))
    assert len(found) > 12
    for one, other in itertools.combinations(found, 2):
        assert not one.overlaps(other)
    assert sum(each.outside(Box(0, 0, width, 400)) for each in found) == 0


def test_names_are_beside_the_ends_when_wide_and_in_a_legend_when_narrow() -> None:
    chart = Chart("t", "x", "y", [Series(f"series {n}", [0, 1], [0, 1 + n / 100]) for n in range(7)])
    for width, beside in ((920, True), (360, False)):
        root = parse(chart, width=width, height=330)
        names = with_class(root, "name")
        assert sorted(each.text.rsplit(" ", 1)[0] for each in names) == [f"series {n}" for n in range(7)]
        right = float(root.get("data-scale")[1:].split(",")[1])
        assert all((float(each.get("x")) > right) == beside for each in names)


def test_every_text_is_escaped_and_comes_back() -> None:
    chart = Chart(
        NASTY,
        NASTY,
        NASTY,
        [Series(NASTY[:20], [0, 1, 2], [1, 3, 2])],
        references=[Reference(2, NASTY)],
        markers=[Marker(NASTY[:20], 1, 3, NASTY)],
    )
    root = parse(chart)
    assert root.find("title").text == SHOWN
    assert NASTY[:20] in root.find("desc").text
    texts = [each.text for each in root.iter("text")]
    assert texts.count(SHOWN) == 4  # both axes, the reference, the marker
    assert f"{NASTY[:20]} 2.000" in texts


def test_the_picture_is_described_for_those_who_do_not_see_it() -> None:
    chart = Chart("Accuracy", "steps", "accuracy", [Series("none", [0, 2814], [0.1, 0.812])], percent=True)
    root = parse(chart, key="k")
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "k-title k-desc"
    assert {each.get("id") for each in root.iter()} >= {"k-title", "k-desc"}
    assert root.find("desc").text == (
        "accuracy against steps, 1 series. none: from 10.0 % at 0 to 81.2 % at 2,814; lowest 10.0 %, highest 81.2 %."
    )


def test_a_standalone_picture_carries_its_name_space_and_both_themes() -> None:
    text = chart_svg(Chart("t", "x", "y", [Series("a", [0, 1], [0, 1])]), standalone=True)
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert LIGHT["s0"] in text
    assert DARK["s0"] in text
    assert len(re.findall("https?:", text)) == 1


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, after WCAG 2.1."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_every_text_colour_has_contrast(palette: dict[str, str]) -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    for name in ("text", "soft", "accent", *(f"s{n}" for n in range(6))):
        assert contrast(palette[name], palette["page"]) >= 4.5, name
    for name in ("text", "soft"):
        assert contrast(palette[name], palette["panel"]) >= 4.5, name
    assert contrast(palette["axis"], palette["page"]) >= 3


def test_reaching_a_level_is_never_interpolated() -> None:
    series = Series("a", [10, 20, 30, 40], [0.1, math.nan, 0.8, 0.9])
    assert series.reaches(0.5) == 30
    assert series.reaches(0.8) == 30
    assert series.reaches(0.95) is None


def test_series_and_charts_are_checked() -> None:
    for x, y, message in (
        ([1, 2], [1], "shape"),
        ([1, math.nan], [1, 2], r"x\[1\] is not finite"),
        ([1, 3, 2], [1, 2, 3], "falls from 3.0 to 2.0 at index 2"),
    ):
        with pytest.raises(ValueError, match=message):
            Series("a", x, y)
    a = Series("a", [1], [1])
    for message, options in (
        ("different names", {"series": [a, a]}),
        ("marker 'm' names 'b'", {"markers": [Marker("b", 0, 0, "m")]}),
        ("finite", {"references": [Reference(math.nan, "r")]}),
        ("positive", {"references": [Reference(0, "r")], "log_y": True}),
        ("low < high", {"y_range": (1, 1)}),
    ):
        with pytest.raises(ValueError, match=message):
            Chart(**{"title": "t", "x_label": "x", "y_label": "y", "series": [a], **options})
    with pytest.raises(ValueError, match="at least 240"):
        chart_svg(Chart("t", "x", "y", [a]), width=100)


@pytest.mark.parametrize(
    ("low", "high", "target", "labels"),
    [
        (0, 1, 6, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0, 46900, 6, ["0", "10,000", "20,000", "30,000", "40,000"]),
        (-0.03, 0.03, 5, ["-0.02", "0.00", "0.02"]),
        (0.871, 0.879, 5, ["0.872", "0.874", "0.876", "0.878"]),
        (0, 1.7, 8, ["0.00", "0.25", "0.50", "0.75", "1.00", "1.25", "1.50"]),
        (0, 3e-6, 4, ["0", "1×10⁻⁶", "2×10⁻⁶", "3×10⁻⁶"]),
    ],
)
def test_ticks_are_round_and_written_with_just_enough_digits(
    low: float, high: float, target: int, labels: list[str]
) -> None:
    assert tick_labels(Scale(low, high, 0, 1).ticks(target)) == labels


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (1e-3, 10, ["0.001", "0.01", "0.1", "1", "10"]),
        (0.1, 2.5, ["0.1", "0.2", "0.5", "1", "2"]),
        (1.1, 1.4, ["1.10", "1.15", "1.20", "1.25", "1.30", "1.35", "1.40"]),
    ],
)
def test_logarithmic_ticks_suit_the_span(low: float, high: float, labels: list[str]) -> None:
    assert tick_labels(Scale(low, high, 0, 1, log=True).ticks(6), log=True) == labels


def test_ticks_lie_on_the_axis_and_are_not_too_many() -> None:
    rng = np.random.default_rng(0)
    for log in (False, True):
        for _ in range(300):
            low = 10 ** rng.uniform(-6, 5)
            scale = Scale(low, low * 10 ** rng.uniform(0.02, 8), 0, 1, log)
            ticks = scale.ticks(6)
            assert 2 <= len(ticks) <= 14
            assert all(scale.low * (1 - 1e-9) <= tick <= scale.high * (1 + 1e-9) for tick in ticks)
            assert len(set(tick_labels(ticks, log=log))) == len(ticks)


def test_scales_are_checked_and_ranges_leave_a_margin() -> None:
    for low, high, log in ((1, 1, False), (0, math.inf, False), (0, 1, True)):
        with pytest.raises(ValueError, match="Scale"):
            Scale(low, high, 0, 1, log)
    assert data_range(np.array([0.0, 10.0, np.nan, np.inf])) == (0.0, 10.4)
    assert data_range(np.zeros(3)) == data_range(np.array([])) == (0.0, 1.0)
    assert data_range(np.array([5.0, 10.0])) == (4.8, 10.2)
    assert data_range(np.array([-10.0, -0.1])) == pytest.approx((-10.396, 0.0))
    low, high = data_range(np.array([0.01, -3.0, 1.0]), log=True)
    assert 0.005 < low < 0.01 < 1 < high < 2


def test_labels_move_apart_and_keep_their_order() -> None:
    assert spread([10, 50, 90], 18, 0, 100) == [10, 50, 90]
    assert spread([52, 50], 18, 0, 100) == [68, 50]
    assert spread([99, 98, 97], 18, 0, 100) == [100, 82, 64]


def test_a_label_goes_where_nothing_is_hidden() -> None:
    area = Box(0, 0, 100, 100)
    line = along(np.array([0.0, 100.0]), np.array([10.0, 10.0]))
    assert np.diff(line[:-2, 0]).max() <= 4
    crossed, outside, taken, free = Box(5, 5, 20, 10), Box(90, 50, 20, 10), Box(5, 50, 20, 10), Box(5, 80, 20, 10)
    assert place([crossed, outside, taken, free], line, [Box(0, 45, 10, 10)], area) is free
    assert place([crossed, free], np.zeros((0, 2)), [], area) is crossed
