"""Colours of graphs, for light and dark, and the style sheet of their SVG.

Hues of Okabe and Ito's palette, which colour-blind readers tell apart, and never colour alone: shape and border say the
kind too. The page, text and accent colours are those of reports.
"""

from __future__ import annotations

from minigrad.run.style import DARK as REPORT_DARK
from minigrad.run.style import LIGHT as REPORT_LIGHT

__all__ = ["DARK", "KINDS", "LIGHT", "SVG_STYLE", "svg_style"]

#: kind: (fill, border) in light, (fill, border) in dark
KINDS = {
    "matmul": (("#CFE6F5", "#0072B2"), ("#123B57", "#56B4E9")),
    "norm": (("#FFE3B8", "#C77700"), ("#553507", "#F0A830")),
    "reduce": (("#FFF3C4", "#8F7A00"), ("#4A4208", "#F0E442")),
    "ew": (("#EDEDED", "#666666"), ("#33363C", "#A0A4AB")),
    "shape": (("#F7F7F7", "#666666"), ("#26292F", "#A0A4AB")),
    "loss": (("#F8D3C2", "#B8460E"), ("#54230F", "#F58A5B")),
    "param": (("#D2EFE4", "#007D5A"), ("#0D3B2E", "#35C79A")),
    "buffer": (("#F0F1F3", "#6B6F76"), ("#26292F", "#A0A4AB")),
    "input": (("#FFFFFF", "#1B1B1B"), ("#16181D", "#ECECEC")),
    "side": (("#FFFFFF", "#6B6F76"), ("#16181D", "#A0A4AB")),
    "block": (("#E9E4F5", "#5B4B9A"), ("#2B2645", "#A99BEA")),
    "error": (("#FBD9D9", "#B00020"), ("#571019", "#FF8A9A")),
}
_MORE = {"soft": ("#55585E", "#C6CAD1"),
         "edge": ("#555555", "#A8ACB3"), "faint": ("#8A8D93", "#767A82"), "grad": ("#7A1FA2", "#E69FFF"),
         "green": ("#005A40", "#6FE0BC"), "warn": ("#B00020", "#FF8A9A"), "added": ("#007D5A", "#35C79A"),
         "removed": ("#B00020", "#FF8A9A"), "changed": ("#7A1FA2", "#E69FFF")}
_SHARED = ("page", "text", "panel", "rule", "accent")


def _palette(dark: bool) -> dict[str, str]:
    report = REPORT_DARK if dark else REPORT_LIGHT
    found = {name: report[name] for name in _SHARED} | {name: pair[dark] for name, pair in _MORE.items()}
    for kind, pairs in KINDS.items():
        found[f"{kind}-fill"], found[f"{kind}-line"] = pairs[dark]
    return found


LIGHT, DARK = _palette(False), _palette(True)


def variables(palette: dict[str, str]) -> str:
    """A palette as CSS variables."""
    return "".join(f"--{name}:{colour};" for name, colour in palette.items())


THEMES = f"""
:root {{ color-scheme: light; {variables(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{ color-scheme: dark; {variables(DARK)} }} }}
:root[data-theme="dark"] {{ color-scheme: dark; {variables(DARK)} }}
"""

SVG_STYLE = """
.graph text { font: 11px Helvetica, Arial, "Liberation Sans", "DejaVu Sans", sans-serif; fill: var(--text);
  text-anchor: middle; }
.graph .title { font-size: 13px; font-weight: bold; }
.graph .path { font-size: 11px; font-weight: normal; fill: var(--soft); }
.graph .soft { fill: var(--soft); }
.graph .params { fill: var(--green); }
.graph .warn, .graph .removed-mark { fill: var(--warn); font-weight: bold; }
.graph .added-mark { fill: var(--added); font-weight: bold; }
.graph .changed-mark { fill: var(--changed); font-weight: bold; }
.graph .body, .graph .rim { stroke-width: 1.5; }
.graph .rim { fill: none; stroke-width: 1; }
.graph .side .body { stroke-dasharray: 5 3; }
.graph .error .body { stroke-width: 3; }
.graph .frame { fill-opacity: .22; stroke-width: 1.2; }
.graph .frame.block { fill-opacity: .12; stroke-dasharray: none; }
.graph .cluster text { text-anchor: start; paint-order: stroke; stroke: var(--page); stroke-width: 4px;
  stroke-linejoin: round; }
.graph .line { fill: none; stroke: var(--edge); }
.graph .head { fill: var(--edge); stroke: none; }
.graph .none .line { stroke: var(--faint); } .graph .none .head { fill: var(--faint); }
.graph .update .line, .graph .hidden .line { stroke-dasharray: 5 4; stroke: var(--faint); }
.graph .update .head, .graph .hidden .head { fill: var(--faint); }
.graph .label text { paint-order: stroke; stroke: var(--page); stroke-width: 3px; stroke-linejoin: round;
  fill: var(--soft); text-anchor: start; }
.graph .label .grad { fill: var(--grad); }
""" + "".join(f".graph .node.{k} .body, .graph .node.{k} .rim, .graph .frame.{k} {{ stroke: var(--{k}-line); }}\n"
              f".graph .node.{k} .body, .graph .frame.{k} {{ fill: var(--{k}-fill); }}\n" for k in KINDS) + """
.graph .node.removed .body, .graph .removed .line { stroke: var(--removed); stroke-dasharray: 6 3; }
.graph .node.added .body, .graph .added .line { stroke: var(--added); stroke-width: 2.6; }
.graph .node.changed .body { stroke: var(--changed); stroke-width: 2.6; }
.graph .removed .head { fill: var(--removed); } .graph .added .head { fill: var(--added); }
"""


def svg_style(theme: str) -> str:
    """The style sheet of a picture that stands alone: light and dark by the reader's choice, or one of the two."""
    themes = THEMES if theme == "auto" else f":root {{ {variables(DARK if theme == 'dark' else LIGHT)} }}\n"
    return themes + "svg { background: var(--page); }\n" + SVG_STYLE
