"""The look of charts and reports: colours for light and dark, style sheets, and the page's script."""

from __future__ import annotations

# Hues of Okabe and Ito's palette, which colour-blind readers tell apart, made darker or lighter until text in
# each of them has a contrast of 4.5:1 or more with the page.
LIGHT = {
    "page": "#FFFFFF", "text": "#1B1B1B", "soft": "#595C61", "panel": "#F5F6F7", "rule": "#D4D6DA",
    "grid": "#E8E9EC", "axis": "#6B6F76", "accent": "#0072B2",
    "s0": "#B8460E", "s1": "#0072B2", "s2": "#007D5A", "s3": "#7A1FA2", "s4": "#846200", "s5": "#55585E",
}  # fmt: skip
DARK = {
    "page": "#16181D", "text": "#ECECEC", "soft": "#A8ACB3", "panel": "#1F2228", "rule": "#3A3E46",
    "grid": "#2A2D34", "axis": "#8B9098", "accent": "#56B4E9",
    "s0": "#F58A5B", "s1": "#56B4E9", "s2": "#35C79A", "s3": "#E69FFF", "s4": "#E3C93C", "s5": "#BFC3CA",
}  # fmt: skip
COLOURS = 6


def _variables(palette: dict[str, str]) -> str:
    """Write a palette as CSS variables."""
    return "".join(f"--{name}:{colour};" for name, colour in palette.items())


_THEMES = f"""
:root {{ color-scheme: light; {_variables(LIGHT)} }}
@media (prefers-color-scheme: dark) {{
  :root:not([data-theme="light"]) {{ color-scheme: dark; {_variables(DARK)} }}
}}
:root[data-theme="dark"] {{ color-scheme: dark; {_variables(DARK)} }}
"""

_SERIES = "\n".join(f".chart .s{n}, .readout .s{n} {{ --c: var(--s{n}); }}" for n in range(COLOURS))

_CHART = f"""
{_SERIES}
.chart text {{ font: 13px Helvetica, Arial, "DejaVu Sans", sans-serif; fill: var(--soft);
  font-variant-numeric: tabular-nums; }}
.chart .title {{ fill: var(--text); }}
.chart .end {{ text-anchor: end; }}
.chart .middle {{ text-anchor: middle; }}
.chart .grid {{ stroke: var(--grid); }}
.chart .axis {{ stroke: var(--axis); fill: none; }}
.chart .line, .chart .raw {{ stroke: var(--c); fill: none; stroke-width: 2.2; stroke-linejoin: round;
  stroke-linecap: round; }}
.chart .raw {{ stroke-width: 1; opacity: .22; }}
.chart .line.again, .chart .key.again {{ stroke-dasharray: 7 5; }}
.chart .point {{ fill: var(--c); stroke: var(--page); }}
.chart .key {{ stroke: var(--c); stroke-width: 2.2; }}
.chart .reference {{ stroke: var(--axis); stroke-width: 1.4; stroke-dasharray: 5 3; fill: none; }}
.chart .ring {{ fill: none; stroke: var(--c); stroke-width: 2; }}
.chart .drop, .chart .leader {{ stroke: var(--c); stroke-width: 1.3; stroke-dasharray: 2 3; fill: none; }}
.chart .leader {{ stroke-dasharray: none; opacity: .6; }}
.chart text.name, .chart text.halo:not(.note) {{ fill: var(--c); }}
.chart text.name {{ font-weight: bold; }}
.chart text.halo {{ paint-order: stroke; stroke: var(--page); stroke-width: 4px;
  stroke-linejoin: round; }}
"""

STANDALONE_STYLE = f"{_THEMES}\nsvg {{ background: var(--page); padding: 12px; }}\n{_CHART}"

PAGE_STYLE = f"""{_THEMES}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.55 Helvetica, Arial, "DejaVu Sans", sans-serif; -webkit-text-size-adjust: 100%; }}
main {{ max-width: 1000px; margin: 0 auto; padding: 28px 40px 64px; }}
header {{ display: flex; gap: 16px; align-items: flex-start; justify-content: space-between; }}
h1 {{ font-size: 26px; line-height: 1.25; margin: 0; text-wrap: balance; overflow-wrap: anywhere; }}
h2 {{ font-size: 19px; margin: 44px 0 10px; padding-top: 18px; border-top: 1px solid var(--rule); }}
h3 {{ font-size: 16px; margin: 0; }}
p {{ margin: 8px 0; max-width: 72ch; overflow-wrap: break-word; }}
.finding {{ font-size: 18px; margin: 16px 0 24px; padding: 10px 16px; border-left: 4px solid var(--accent);
  background: var(--panel); border-radius: 0 6px 6px 0; max-width: none; }}
.soft, figcaption p {{ color: var(--soft); font-size: 14px; }}
button {{ font: inherit; font-size: 14px; color: var(--text); background: var(--panel);
  border: 1px solid var(--rule); border-radius: 8px; padding: 4px 12px; cursor: pointer;
  white-space: nowrap; }}
:focus-visible {{ outline: 2px solid var(--accent); outline-offset: 3px; border-radius: 4px; }}
.scroll {{ overflow-x: auto; margin: 12px 0; }}
.scroll.tall {{ width: fit-content; max-width: 100%; max-height: 360px;
  overflow-y: auto; border: 1px solid var(--rule); border-radius: 6px; }}
table {{ border-collapse: collapse; font-size: 15px; font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; color: var(--soft); font-size: 14px; padding-bottom: 6px; }}
th, td {{ padding: 6px 22px 6px 0; text-align: left; border-bottom: 1px solid var(--rule);
  vertical-align: top; }}
th:last-child, td:last-child {{ padding-right: 8px; }}
thead th {{ color: var(--soft); font-weight: normal; font-size: 14px; border-bottom: 1px solid var(--axis);
  vertical-align: bottom; }}
.num {{ text-align: right; white-space: nowrap; }}
.results th, .results td {{ white-space: nowrap; }}
.results table {{ width: 100%; }}
.tall th, .tall td {{ padding: 2px 22px 2px 12px; font-size: 14px; }}
.tall thead th {{ position: sticky; top: 0; background: var(--panel); }}
.tall tbody th, .facts th {{ font-weight: normal; }}
.facts th {{ color: var(--soft); white-space: nowrap; }}
.facts td {{ overflow-wrap: anywhere; }}
.facts th, .facts td {{ font-size: 14px; padding-top: 4px; padding-bottom: 4px; }}
.pair {{ display: grid; grid-template-columns: 1fr 1fr; gap: 0 48px; }}
.pair section {{ min-width: 0; }}
.facts table {{ width: 100%; }}
figure {{ margin: 30px 0 38px; }}
figcaption p {{ margin: 2px 0 0; }}
.plot {{ position: relative; margin-top: 12px; }}
.plot svg {{ display: block; width: 100%; height: auto; overflow: visible; }}
.plot .narrow {{ display: none; max-width: 520px; }}
details {{ margin-top: 8px; }}
.embed iframe {{ width: 100%; height: 720px; border: 1px solid var(--rule); border-radius: 8px; margin-top: 10px; }}
summary {{ cursor: pointer; color: var(--accent); font-size: 14px; width: fit-content; }}
.hover path {{ stroke: var(--axis); }}
.readout {{ position: absolute; top: 0; left: 0; pointer-events: none; background: var(--page);
  color: var(--text); border: 1px solid var(--rule); border-radius: 8px; padding: 6px 10px;
  font-size: 13px; line-height: 1.45;
  font-variant-numeric: tabular-nums; white-space: nowrap; box-shadow: 0 2px 10px rgb(0 0 0 / .14); }}
.readout[hidden] {{ display: none; }}
.readout b {{ color: var(--c); }}
{_CHART}
@media (max-width: 720px) {{
  main {{ padding: 18px 16px 48px; }}
  h1 {{ font-size: 22px; }}
  .finding {{ font-size: 16px; }}
  .plot .wide {{ display: none; }}
  .plot .narrow {{ display: block; }}
  th, td {{ padding-right: 14px; }}
  .pair {{ display: block; }}
  .facts th {{ white-space: normal; }}
}}
@media print {{ button {{ display: none; }} figure {{ break-inside: avoid; }} }}
"""

# The page is complete without it. It adds the switch between light and dark, and reads values off the charts:
# under the pointer, or with the arrow keys while a chart has the focus.
PAGE_SCRIPT = """"use strict";
(() => {
  const root = document.documentElement;
  const button = document.querySelector("button");
  button.hidden = false;
  button.addEventListener("click", () => {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
  });
  const number = v => v !== 0 && (Math.abs(v) < 1e-4 || Math.abs(v) >= 1e7) ? v.toExponential(3)
    : v.toLocaleString("en-US", {maximumSignificantDigits: Number.isInteger(v) ? 12 : 5});
  const nearest = (xs, x) => {
    let low = 0, high = xs.length - 1;
    while (high - low > 1) { const mid = (low + high) >> 1; if (xs[mid] < x) low = mid; else high = mid; }
    return x - xs[low] <= xs[high] - x ? low : high;
  };
  const part = (parent, tag, text, kind) => {
    const made = parent.appendChild(document.createElement(tag));
    made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const attach = (svg, data, readout) => {
    const [left, right, top, bottom, x0, x1, y0, y1, log] = JSON.parse(svg.dataset.scale);
    const hover = svg.querySelector(".hover"), width = svg.viewBox.baseVal.width;
    const draw = (kind, d) => {
      const path = hover.appendChild(document.createElementNS(svg.namespaceURI, "path"));
      path.setAttribute("class", kind);
      path.setAttribute("d", d);
    };
    const toX = x => left + (x - x0) / (x1 - x0) * (right - left);
    const f = log ? Math.log : v => v;
    const toY = y => bottom - (f(y) - f(y0)) / (f(y1) - f(y0)) * (bottom - top);
    const every = [...new Set(data.series.flatMap(s => s.x))].sort((a, b) => a - b);
    let current = null;
    const hide = () => { current = null; hover.replaceChildren(); readout.hidden = true; };
    const show = x => {
      current = x;
      hover.replaceChildren();
      readout.replaceChildren();
      draw("", `M${toX(x)},${top}V${bottom}`);
      const heights = [];
      part(readout, "div", `${data.x_label}: ${number(x)}`);
      data.series.forEach((series, index) => {
        if (!series.x.length || x < series.x[0] || x > series.x.at(-1)) return;
        const at = nearest(series.x, x), y = series.y[at];
        const row = part(readout, "div", "");
        part(row, "b", series.name, series.colour);
        const value = y === null ? "not finite" : data.percent ? (100 * y).toFixed(1) + " %" : number(y);
        row.append("  " + value + (series.x[at] === x ? "" : ` (at ${number(series.x[at])})`));
        const px = toX(series.x[at]), py = y === null ? NaN : toY(y);
        if (!(py >= top - 3 && py <= bottom + 3)) return;
        draw("point " + series.colour, `M${px - 5},${py}a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z`);
        heights.push(py);
      });
      readout.hidden = false;
      const scale = svg.getBoundingClientRect().width / width, at = toX(x) * scale;
      const beside = at + 14 + readout.offsetWidth > width * scale ? at - 14 - readout.offsetWidth : at + 14;
      readout.style.left = Math.max(0, beside) + "px";
      const high = heights.filter(py => py < (top + bottom) / 2).length * 2 > heights.length;
      readout.style.top = (high ? bottom * scale - readout.offsetHeight - 8 : top * scale) + "px";
    };
    if (!every.length) return;
    svg.addEventListener("pointermove", event => {
      const box = svg.getBoundingClientRect();
      const px = (event.clientX - box.left) * width / box.width;
      if (px < left - 12 || px > right + 12) return hide();
      show(every[nearest(every, x0 + (px - left) / (right - left) * (x1 - x0))]);
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", event => {
      const way = {ArrowLeft: -1, ArrowRight: 1}[event.key];
      if (event.key === "Escape") return hide();
      if (!way) return;
      event.preventDefault();
      const from = current === null ? (way > 0 ? -1 : every.length) : every.indexOf(current);
      show(every[Math.min(every.length - 1, Math.max(0, from + way))]);
    });
  };
  for (const figure of document.querySelectorAll("figure")) {
    const data = JSON.parse(figure.querySelector("script").textContent);
    for (const svg of figure.querySelectorAll("svg")) attach(svg, data, figure.querySelector(".readout"));
  }
})();
"""
