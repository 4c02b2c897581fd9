"use strict";
(() => {
  const scene = JSON.parse(document.getElementById("scene").textContent);
  const svg = document.getElementById("timeline"), tip = document.getElementById("tip");
  const NS = "http://www.w3.org/2000/svg", LEFT = 130, TOP = 26, ROW = 16;
  const COLOURS = { session: "var(--session)", lease: "var(--lease)", job: "var(--job)", lock: "var(--lock)" };
  const BARS = Object.keys(COLOURS);
  const off = new Set(), hidden = new Set();
  let needle = "", view = null;

  // Bars of one machine and kind that overlap get rows of their own.
  function stacked(bars) {
    const ends = [];
    for (const bar of bars) {
      let row = ends.findIndex((end) => end <= bar.from_ms);
      if (row < 0) row = ends.push(0) - 1;
      ends[row] = bar.to_ms;
      bar.row = row;
    }
    return ends.length;
  }

  const lanes = scene.lanes.map((name, lane) => {
    const rows = BARS.map((kind) => stacked(scene.bars.filter((bar) => bar.lane === lane && bar.kind === kind)));
    return { name, lane, rows };
  });
  const used = new Set([...scene.requests.flatMap((r) => [r.from, r.to]), ...scene.bars.map((b) => b.lane), ...scene.marks.map((m) => m.lane)]);

  function clock(ms) {
    const s = ms / 1000, h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
    return `${h}:${String(m).padStart(2, "0")}:${(s % 60).toFixed(3).padStart(6, "0")}`;
  }
  function add(name, attributes, told) {
    const element = document.createElementNS(NS, name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (told) element.dataset.told = told;
    svg.append(element);
    return element;
  }
  function label(x, y, text, kind) { add("text", { x, y, class: kind }).textContent = text; }
  const fits = (text) => !needle || text.toLowerCase().includes(needle);

  function layout() {
    let y = TOP;
    for (const lane of lanes) {
      lane.shown = used.has(lane.lane) && !hidden.has(lane.lane);
      if (!lane.shown) continue;
      lane.y = y;
      lane.start = BARS.map((kind, n) => { const at = y + 20; if (!off.has(kind)) y += lane.rows[n] * ROW; return at; });
      lane.line = y + 32;
      y += 44;
    }
    return y + 6;
  }

  function draw() {
    svg.textContent = "";
    const width = svg.clientWidth || 1200, height = layout();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.style.height = `${height}px`;
    const x = (ms) => LEFT + (ms - view[0]) / (view[1] - view[0]) * (width - LEFT - 10);
    const seen = (from, to) => to >= view[0] && from <= view[1];
    const clip = (ms) => Math.max(LEFT, Math.min(width - 10, x(ms)));
    axis(width, height, x);
    for (const band of scene.bands) {
      if (!seen(band.from_ms, band.to_ms)) continue;
      const on = lanes.filter((lane) => lane.shown && (band.lanes.length ? band.lanes.includes(lane.lane) : true));
      for (const lane of on) {
        const from = clip(band.from_ms), to = Math.max(clip(band.to_ms), from + 2);
        add("rect", { x: from, y: lane.y, width: to - from, height: lane.line - lane.y + 10, fill: "var(--fault)", opacity: band.effects ? 0.13 : 0.05 },
          `FAULT ${band.what}\n${clock(band.from_ms)} to ${clock(band.to_ms)}\n${band.effects} effects${band.clock ? `\nclock ${band.clock}` : ""}`);
        if (band.clock) label(from + 2, lane.y + 12, `clock ${band.clock}`, "axis");
      }
    }
    for (const lane of lanes) {
      if (!lane.shown) continue;
      add("line", { x1: LEFT, x2: width - 10, y1: lane.line, y2: lane.line, stroke: "var(--line)" });
    }
    for (const bar of scene.bars) {
      const lane = lanes[bar.lane];
      if (off.has(bar.kind) || !lane.shown || !seen(bar.from_ms, bar.to_ms) || !fits(`${bar.kind} ${bar.name}`)) continue;
      const from = clip(bar.from_ms), to = Math.max(clip(bar.to_ms), from + 2);
      const y = lane.start[BARS.indexOf(bar.kind)] + bar.row * ROW - 10;
      add("rect", { x: from, y, width: to - from, height: ROW - 4, rx: 3, fill: COLOURS[bar.kind], opacity: 0.75 },
        `${bar.kind} ${bar.name}\n${clock(bar.from_ms)} to ${clock(bar.to_ms)}: ${bar.end}`);
      if (to - from > 90) label(from + 4, y + ROW - 7, `${bar.kind} ${bar.name}`.slice(0, Math.floor((to - from) / 6.5)), "bar");
    }
    if (!off.has("requests")) for (const request of scene.requests) requestArrow(request, x, seen);
    for (const mark of scene.marks) {
      const lane = lanes[mark.lane], layer = mark.kind === "process" ? "fact" : mark.kind;
      if (off.has(layer) || !lane.shown || !seen(mark.at_ms, mark.at_ms) || !fits(mark.text)) continue;
      add("circle", { cx: x(mark.at_ms), cy: lane.line + (mark.kind === "log" ? 7 : -5), r: 3, fill: mark.kind === "log" ? "#98a2b3" : "#344054" },
        `${lane.name} at ${clock(mark.at_ms)}\n${mark.text}`);
    }
    for (const found of scene.findings) {
      if (!seen(found.at_ms, found.at_ms)) continue;
      add("line", { x1: x(found.at_ms), x2: x(found.at_ms), y1: TOP - 6, y2: height, stroke: "var(--bad)", "stroke-width": 2, "stroke-dasharray": "5 3" },
        `${found.severity}: ${found.invariant} at ${clock(found.at_ms)}\n${found.message}`);
    }
    // What began before the picture does is cut off at its edge.
    add("rect", { x: 0, y: 0, width: LEFT - 1, height, fill: "var(--paper)" });
    for (const lane of lanes) if (lane.shown) label(8, lane.line + 4, lane.name, "lane");
  }

  function requestArrow(request, x, seen) {
    const from = lanes[request.from], to = request.to === null ? null : lanes[request.to];
    if (!from.shown || !seen(request.sent_ms, request.ended_ms) || !fits(`${request.what} ${request.outcome}`)) return;
    const colour = request.good ? "#98a2b3" : "var(--bad)";
    const told = `${from.name}: ${request.what}\n→ ${request.outcome}\n${clock(request.sent_ms)} to ${clock(request.ended_ms)}`;
    const there = to && to.shown ? to.line : from.line - 14;
    const middle = (x(request.sent_ms) + x(request.ended_ms)) / 2;
    add("path", { d: `M${x(request.sent_ms)} ${from.line} L${middle} ${there} L${x(request.ended_ms)} ${from.line}`, fill: "none", stroke: colour,
      "stroke-width": request.good ? 1 : 1.6, opacity: request.good ? 0.55 : 0.9 }, told);
    if (!request.good) label(x(request.ended_ms) + 3, from.line - 3, /^\d+$/.test(request.outcome) ? request.outcome : "✕", "axis");
  }

  function axis(width, height, x) {
    const span = view[1] - view[0], wanted = span / Math.max(2, (width - LEFT) / 120);
    const steps = [1, 5, 10, 50, 100, 500, 1e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6, 3.6e6, 1.08e7, 4.32e7, 8.64e7];
    const step = steps.find((one) => one >= wanted) || wanted;
    for (let at = Math.ceil(view[0] / step) * step; at <= view[1]; at += step) {
      add("line", { x1: x(at), x2: x(at), y1: TOP - 8, y2: height, stroke: "#eef1f5" });
      label(x(at) + 2, 14, clock(at).replace(/\.000$/, ""), "axis");
    }
    if (scene.heal_ms > view[0] && scene.heal_ms < view[1]) {
      add("line", { x1: x(scene.heal_ms), x2: x(scene.heal_ms), y1: TOP - 8, y2: height, stroke: "var(--good)", "stroke-dasharray": "2 3" }, "every fault is over");
    }
  }

  function whole() { view = [0, Math.max(scene.end_ms, 1)]; draw(); }
  function failure() {
    if (!scene.findings.length) return whole();
    const at = scene.findings[0].at_ms, around = Math.min(180e3, scene.end_ms / 2);
    view = [Math.max(0, at - around), Math.min(scene.end_ms, at + around / 4)];
    draw();
  }

  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = svg.getBoundingClientRect(), share = Math.max(0, (event.clientX - box.left - LEFT) / (box.width - LEFT - 10));
    const at = view[0] + share * (view[1] - view[0]), by = Math.exp(event.deltaY * 0.0015);
    view = [at - (at - view[0]) * by, at + (view[1] - at) * by];
    view = [Math.max(0, view[0]), Math.min(scene.end_ms, Math.max(view[1], view[0] + 1))];
    draw();
  }, { passive: false });
  let drag = null;
  svg.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, view: [...view] }; });
  window.addEventListener("pointerup", () => { drag = null; });
  window.addEventListener("pointermove", (event) => {
    if (drag) {
      const by = (drag.x - event.clientX) / (svg.clientWidth - LEFT - 10) * (drag.view[1] - drag.view[0]);
      const moved = Math.max(-drag.view[0], Math.min(scene.end_ms - drag.view[1], by));
      view = [drag.view[0] + moved, drag.view[1] + moved];
      draw();
      return;
    }
    const told = event.target.dataset && event.target.dataset.told;
    tip.hidden = !told;
    if (!told) return;
    tip.textContent = told;
    tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 10)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 10)}px`;
  });
  for (const box of document.querySelectorAll("[data-layer]")) {
    box.addEventListener("change", () => { box.checked ? off.delete(box.dataset.layer) : off.add(box.dataset.layer); draw(); });
  }
  document.getElementById("filter").addEventListener("input", (event) => { needle = event.target.value.toLowerCase(); draw(); });
  document.getElementById("whole").addEventListener("click", whole);
  document.getElementById("failure").addEventListener("click", failure);
  document.getElementById("copy").addEventListener("click", () => navigator.clipboard.writeText(document.querySelector(".replay code").textContent));
  for (const lane of lanes.filter((one) => used.has(one.lane))) {
    const toggle = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => { box.checked ? hidden.delete(lane.lane) : hidden.add(lane.lane); draw(); });
    toggle.append(box, ` ${lane.name}`);
    document.getElementById("lanes").append(toggle);
  }
  window.addEventListener("resize", draw);
  failure();
})();
