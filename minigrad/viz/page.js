"use strict";
(() => {
  const $ = id => document.getElementById(id);
  const svg = $("graph"), data = JSON.parse($("data").textContent), space = svg.namespaceURI;
  const smooth = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  let number = 0, state = null, chosen = null, step = 0, playing = 0, box = {x: 0, y: 0, w: 1, h: 1};
  let nodes = [], edges = [], turns = [], hits = [];
  window.minigradGraph = {get step() { return step; }, get turns() { return turns.length; }, get state() { return number; }};

  const make = (parent, tag, attributes = {}, text = "") => {
    const made = document.createElementNS(parent instanceof SVGElement ? space : "http" + "://www.w3.org/1999/xhtml", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text) made.textContent = text;
    return parent.appendChild(made);
  };
  const piece = (parent, f) => {
    const copy = $("f" + f).cloneNode(true);
    copy.removeAttribute("id");
    return parent.appendChild(copy);
  };
  const say = text => { $("status").textContent = text; };

  // ------------------------------------------------------------ drawing a state
  const toggle = (parent, key, x, y, open, label) => {
    const move = state.go[key];
    if (!move) return null;
    const g = make(parent, "g", {class: "toggle", transform: `translate(${x} ${y})`});
    make(g, "circle", {r: 7.5});
    make(g, "path", {d: open ? "M-4,0H4" : "M-4,0H4M0,-4V4"});
    make(g, "title", {}, (open ? "Close " : "Open ") + label);
    g.addEventListener("click", event => { event.stopPropagation(); go(key); });
    g.addEventListener("pointerdown", event => event.stopPropagation());
    g.addEventListener("dblclick", event => event.stopPropagation());
    return g;
  };
  const draw = () => {
    svg.replaceChildren();
    nodes = []; edges = [];
    for (const c of state.c) piece(make(svg, "g", {transform: `translate(${c.x} ${c.y})`}), c.f);
    for (const e of state.e) {
      const g = make(svg, "g", {class: e.cls});
      make(g, "path", {class: "line", d: e.d, "stroke-width": e.w});
      if (e.h) make(g, "path", {class: "head", d: e.h});
      make(g, "path", {class: "wide", d: e.d}).addEventListener("click", () => pickEdge(edges.find(each => each.g === g)));
      edges.push({...e, g});
    }
    state.n.forEach(([index, x, y], at) => {
      const about = data.nodes[index];
      const g = make(svg, "g", {class: about.cls, transform: `translate(${x} ${y})`, tabindex: at ? -1 : 0, role: "button",
                                "aria-label": about.label});
      const body = piece(g, about.f).getBBox ? g.firstChild : null;
      const entry = {about, x, y, g, at};
      if (about.open && state.go[about.open]) {
        const size = body.getBBox();
        g.setAttribute("aria-expanded", "false");
        toggle(g, about.open, size.x + size.width - 3, size.y + 3, false, about.title);
      }
      g.addEventListener("focus", () => pick(entry));
      g.addEventListener("click", () => { g.focus(); pick(entry); });
      g.addEventListener("dblclick", () => { if (about.open) go(about.open); });
      nodes.push(entry);
    });
    for (const c of state.c) {
      const g = make(svg, "g", {class: "cluster", transform: `translate(${c.x} ${c.y})`});
      piece(g, c.t);
      const width = document.getElementById("f" + c.f).firstElementChild.getAttribute("width");
      const button = toggle(g, c.key, width - 16, 15, true, c.label);
      if (button) {
        for (const [name, value] of [["tabindex", 0], ["role", "button"], ["aria-expanded", "true"], ["aria-label", "Close " + c.label]])
          button.setAttribute(name, value);
        button.addEventListener("keydown", event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); go(c.key); } });
      }
    }
    for (const e of edges) if (e.l) {
      e.tag = make(svg, "g", {class: "label", transform: `translate(${e.l[1]} ${e.l[2]})`});
      piece(e.tag, e.l[0]);
    }
    turns = edges.filter(e => e.order).sort((a, b) => a.order - b.order);
    $("step").disabled = $("play").disabled = !turns.length;
    $("notes").hidden = !state.notes.length;
    $("notes").textContent = state.notes.join("\n");
  };
  const show = (next, keep) => {
    number = next;
    state = data.states[next];
    step = 0;
    stop();
    draw();
    if (!keep) fit(true); else clamp();
    mark();
    find();
  };
  const go = key => {
    const move = state.go[key];
    if (!move) return say("This page holds no picture of that; make one with --expand.");
    const before = nodes.find(n => (n.about.open || n.about.key) === key) || state.c.find(c => c.key === key);
    const opening = nodes.some(n => n.about.open === key);
    const [x, y] = before ? [before.x, before.y] : [0, 0];
    show(move[0], true);
    const after = state.c.find(c => c.key === key) || nodes.find(n => (n.about.open || n.about.key) === key);
    if (after) reveal(opening ? after : null, after, x, y);
    const first = opening ? nodes.find(n => n.g.getAttribute("aria-label")) : nodes.find(n => n.about.open === key);
    if (!opening && first) first.g.focus({preventScroll: true});
    say((opening ? "Opened" : "Closed") + (move[1] ? "; other things closed or opened with it, as this page holds a limited number of pictures." : "."));
  };

  const reveal = (frame, after, x, y) => {
    if (frame && frame.f !== undefined) {
      const rect = $("f" + frame.f).firstElementChild, w = +rect.getAttribute("width"), h = +rect.getAttribute("height");
      const {width, height} = size();
      if (w > box.w * .9) box.w = w / .9;
      box.h = box.w * height / Math.max(1, width);
      box.x = frame.x + w / 2 - box.w / 2;
      box.y = h < box.h * .8 ? frame.y + h / 2 - box.h / 2 : frame.y - box.h * .12;
    } else { box.x += after.x - x; box.y += after.y - y; }
    clamp();
  };

  // ------------------------------------------------------------ pan and zoom
  const place = () => svg.setAttribute("viewBox", `${box.x} ${box.y} ${box.w} ${box.h}`);
  const size = () => svg.getBoundingClientRect();
  const clamp = () => {
    if (!fitted) return fit(true);
    const {width, height} = size();
    if (!width || !height) return;
    box.h = box.w * height / Math.max(1, width);
    box.x = Math.max(-box.w * .9, Math.min(box.x, state.w - box.w * .1));
    box.y = Math.max(-box.h * .9, Math.min(box.y, state.h - box.h * .1));
    place();
  };
  let fitted = false;
  const fit = readable => {
    const {width, height} = size();
    if (!width || !height) return;  // in a frame that is not shown yet
    fitted = true;
    const pad = 18, scale = Math.min(1.35, width / (state.w + 2 * pad), readable ? 9 : height / (state.h + 2 * pad));
    const used = readable ? Math.max(scale, Math.min(.75, width / 500)) : scale;
    box = {w: width / used, h: height / used, x: 0, y: -pad};
    box.x = state.w / 2 - box.w / 2;
    if (state.w > box.w && nodes.length) {  // too wide to be seen whole: begin where the program begins
      const top = nodes.reduce((a, b) => b.y < a.y ? b : a);
      box.x = Math.max(-pad, Math.min(top.x - box.w / 2, state.w + pad - box.w));
    }
    if (state.h < box.h) box.y = state.h / 2 - box.h / 2;
    place();
  };
  const zoom = (factor, px, py) => {
    const {left, top, width, height} = size();
    const fx = px === undefined ? .5 : (px - left) / width, fy = py === undefined ? .5 : (py - top) / height;
    const w = Math.max(80, Math.min(box.w * factor, 4 * Math.max(state.w, state.h, width)));
    const h = w * height / width;
    box = {x: box.x + (box.w - w) * fx, y: box.y + (box.h - h) * fy, w, h};
    place();
  };
  const into = (x, y) => {
    const m = 40;
    if (x < box.x + m || x > box.x + box.w - m) box.x = x - box.w / 2;
    if (y < box.y + m || y > box.y + box.h - m) box.y = y - box.h / 2;
    place();
  };
  svg.addEventListener("wheel", event => {
    event.preventDefault();
    if (event.ctrlKey || event.metaKey || !event.shiftKey) zoom(Math.exp(event.deltaY * .0015), event.clientX, event.clientY);
    else { box.x += event.deltaY * box.w / size().width; place(); }
  }, {passive: false});
  const fingers = new Map();
  svg.addEventListener("pointerdown", event => { fingers.set(event.pointerId, [event.clientX, event.clientY]); });
  svg.addEventListener("pointermove", event => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const scale = box.w / size().width, dx = event.clientX - before[0], dy = event.clientY - before[1];
    if (fingers.size === 1) {
      if (Math.abs(dx) + Math.abs(dy) < 3 && !svg.classList.contains("dragging")) return;
      svg.classList.add("dragging");
      svg.setPointerCapture(event.pointerId);
      box.x -= dx * scale; box.y -= dy * scale;
      place();
    } else if (fingers.size === 2) {
      const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const far = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]) || 1;
      zoom(far(before) / far([event.clientX, event.clientY]), other[0], other[1]);
    }
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  const lift = event => { fingers.delete(event.pointerId); if (!fingers.size) svg.classList.remove("dragging"); };
  svg.addEventListener("pointerup", lift);
  svg.addEventListener("pointercancel", lift);
  addEventListener("resize", clamp);

  // ------------------------------------------------------------ details
  const table = (parent, rows) => {
    const t = make(parent, "table");
    for (const [name, ...cells] of rows) {
      const row = make(t, "tr");
      make(row, "th", {scope: "row"}, name);
      for (const cell of cells) make(row, "td", cell.grad ? {class: "grad"} : {}, cell.grad || cell);
    }
  };
  const histogram = (parent, title, numbers, kind) => {
    if (!numbers) return;
    make(parent, "h3", {}, title);
    table(parent, numbers.facts);
    const top = Math.max(...numbers.hist, 1), n = numbers.hist.length;
    if (!n) return;
    const picture = make(parent, "svg", {});
    picture.remove();
    const chart = document.createElementNS(space, "svg");
    for (const [name, value] of [["class", "hist " + kind], ["viewBox", "0 0 288 66"], ["width", "100%"], ["role", "img"],
                                 ["aria-label", `Histogram of the ${title}, ${numbers.facts[2][1]}`]]) chart.setAttribute(name, value);
    parent.appendChild(chart);
    numbers.hist.forEach((count, k) => {
      const high = 60 * count / top;
      make(chart, "rect", {x: k * 288 / n + .5, y: 64 - high, width: 288 / n - 1, height: Math.max(high, count ? 1 : 0)});
    });
  };
  const tensor = (parent, id) => {
    const t = data.tensors[id];
    if (!t) return;
    make(parent, "hr");
    make(make(parent, "h2", {}, t.name + " "), "small", {}, t.kind === "act" ? "tensor" : t.kind);
    table(parent, t.facts);
    histogram(parent, "values", t.values, "values");
    histogram(parent, "gradient", t.grad, "gradient");
  };
  const operation = (parent, id) => {
    const op = data.ops[id];
    if (!op) return;
    table(parent, op.facts);
    if (op.in.length) {
      make(parent, "h3", {}, "inputs, and the gradient through each edge");
      table(parent, op.in.map(([name, shape, grad, kept]) => [name, shape + (kept ? "  (kept)" : ""), {grad: grad ? "∇ " + grad : " "}]));
    }
    op.out.forEach(each => tensor(parent, each));
  };
  const pick = entry => {
    chosen = entry;
    nodes.forEach(n => { n.g.classList.toggle("chosen", n === entry); n.g.setAttribute("tabindex", n === entry ? 0 : -1); });
    edges.forEach(e => e.g.classList.toggle("picked", e.s === entry.at || e.e === entry.at));
    const panel = $("details"), about = entry.about;
    panel.replaceChildren();
    make(make(panel, "h2", {}, about.title + " "), "small", {}, about.path);
    if (about.open && state.go[about.open]) make(panel, "button", {type: "button", id: "open"}, "Open").addEventListener("click", () => go(about.open));
    if (about.tensor) tensor(panel, about.tensor);
    if (about.ops.length === 1) operation(panel, about.ops[0]);
    else if (about.ops.length) {
      make(panel, "p", {class: "soft"}, `${about.all} operations` + (about.all > about.ops.length ? `, the first ${about.ops.length}:` : ":"));
      about.ops.forEach(id => {
        const more = make(panel, "details");
        make(more, "summary", {}, data.ops[id].name);
        operation(more, id);
      });
    }
  };
  const pickEdge = e => {
    edges.forEach(each => each.g.classList.toggle("picked", each === e));
    const panel = $("details");
    panel.replaceChildren();
    make(panel, "h2", {}, `${nodes[e.s].about.title} → ${nodes[e.e].about.title}`);
    table(panel, [["on this edge", e.text || "–"], ["kept for backward", e.kept ? "yes" : "no"], ["turn in backward", e.order ? `${e.order} of ${turns.length}` : "no gradient"]]);
    tensor(panel, e.t);
  };

  // ------------------------------------------------------------ search
  const find = () => {
    const wanted = $("search").value.trim().toLowerCase();
    hits = wanted ? nodes.filter(n => (n.about.label + " " + n.about.words).toLowerCase().includes(wanted)) : [];
    nodes.forEach(n => {
      n.g.classList.toggle("hit", hits.includes(n));
      n.g.classList.toggle("missed", Boolean(wanted) && !hits.includes(n));
    });
    if (wanted) say(hits.length ? `${hits.length} found; Enter goes to the next.` : "Nothing found.");
    else if ($("status").textContent.includes("ound")) say("");
    if (hits.length) into(hits[0].x, hits[0].y);
  };
  let turn = 0;
  $("search").addEventListener("input", () => { turn = 0; find(); });
  $("search").addEventListener("keydown", event => {
    if (event.key === "Enter" && hits.length) {
      const hit = hits[turn++ % hits.length];
      into(hit.x, hit.y);
      pick(hit);
      say(`${(turn - 1) % hits.length + 1} of ${hits.length}: ${hit.about.label}`);
    }
    if (event.key === "Escape") { event.target.value = ""; find(); svg.focus(); }
  });

  // ------------------------------------------------------------ stepping through backward
  const mark = () => {
    svg.classList.toggle("stepping", step > 0);
    svg.querySelectorAll(".upward").forEach(each => each.remove());
    for (const e of edges) {
      const at = turns.indexOf(e) + 1;
      for (const g of [e.g, e.tag]) if (g) {
        g.classList.toggle("done", step > 0 && at > 0 && at < step);
        g.classList.toggle("now", step > 0 && at === step);
      }
      if (step > 0 && at > 0 && at <= step) upward(e);
    }
    const now = turns[step - 1];
    nodes.forEach(n => n.g.classList.toggle("now", Boolean(now) && (n.at === now.s || n.at === now.e)));
    $("reset").hidden = !step;
    $("back").disabled = !step;
    if (!now) return;
    say(`Step ${step} of ${turns.length}: ${nodes[now.e].about.title} sends ${now.text.split(", ").pop()} to ${nodes[now.s].about.title}`);
    const middle = now.g.firstChild.getPointAtLength(now.g.firstChild.getTotalLength() / 2);
    const readable = size().width / .85;
    if (box.w > readable) { box.w = readable; clamp(); box.x = middle.x - box.w / 2; box.y = middle.y - box.h / 2; }
    into(middle.x, middle.y);
  };
  const upward = e => {
    const path = e.g.firstChild, a = path.getPointAtLength(0), b = path.getPointAtLength(9);
    const l = Math.hypot(b.x - a.x, b.y - a.y) || 1, nx = -(b.y - a.y) / l * 4, ny = (b.x - a.x) / l * 4;
    make(e.g, "path", {class: "upward", d: `M${b.x + nx},${b.y + ny}L${a.x},${a.y}L${b.x - nx},${b.y - ny}Z`});
  };
  const stepTo = to => {
    if (to > turns.length) { stop(); return; }
    step = Math.max(0, to);
    mark();
    if (!step) say("");
  };
  const stop = () => { clearInterval(playing); playing = 0; $("play").setAttribute("aria-pressed", "false"); $("play").textContent = "Play"; };
  $("step").addEventListener("click", () => stepTo(step + 1));
  $("back").addEventListener("click", () => stepTo(step - 1));
  $("reset").addEventListener("click", () => { stop(); stepTo(0); });
  $("play").addEventListener("click", () => {
    if (playing) return stop();
    if (step >= turns.length) step = 0;
    $("play").setAttribute("aria-pressed", "true");
    $("play").textContent = "Pause";
    playing = setInterval(() => stepTo(step + 1), smooth ? 700 : 1400);
  });

  // ------------------------------------------------------------ keys and buttons
  const neighbour = (dx, dy) => {
    const from = chosen || nodes[0];
    let best = null, least = Infinity;
    for (const n of nodes) {
      const along = (n.x - from.x) * dx + (n.y - from.y) * dy, aside = Math.abs((n.x - from.x) * dy) + Math.abs((n.y - from.y) * dx);
      const cost = along + 2.5 * aside;
      if (n !== from && along > 2 && cost < least) { least = cost; best = n; }
    }
    return best;
  };
  document.addEventListener("keydown", event => {
    if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
    const way = {ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0]}[event.key];
    const inGraph = svg.contains(document.activeElement);
    if (way && inGraph) {
      const next = neighbour(...way);
      if (next) { into(next.x, next.y); next.g.focus({preventScroll: true}); }
    } else if ((event.key === "Enter" || event.key === " ") && inGraph && chosen) {
      if (chosen.about.open) go(chosen.about.open);
    } else if (event.key === "/") $("search").focus();
    else if (event.key === "n") stepTo(step + 1);
    else if (event.key === "p") stepTo(step - 1);
    else if (event.key === "+" || event.key === "=") zoom(.8);
    else if (event.key === "-") zoom(1.25);
    else if (event.key === "0") fit(false);
    else if (event.key === "Escape") { stop(); stepTo(0); }
    else return;
    event.preventDefault();
  });
  $("in").addEventListener("click", () => zoom(.8));
  $("out").addEventListener("click", () => zoom(1.25));
  $("fit").addEventListener("click", () => fit(false));
  $("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
  });
  show(0);
})();
