"use strict";
// Charts as plain SVG. Text only ever enters the page as text nodes: nothing a model wrote is parsed as markup.

const SVG = "http://www.w3.org/2000/svg";
const COLORS = 8;
const PAD = { left: 52, right: 10, top: 8, bottom: 22 };

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes = {}, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

const color = (index) => `var(--c${index % COLORS})`;

function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e5 || size < 1e-3)) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const list = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) list.push(Number((n * step).toPrecision(12)));
  return list;
}

// Mean over a centred window, and its standard error if the single ones are known.
function smoothed(values, errors, width) {
  if (width <= 1) return { values, errors };
  const half = Math.floor(width / 2), out = [], outErrors = errors && [];
  values.forEach((value, i) => {
    let sum = 0, square = 0, n = 0, known = true;
    for (let j = Math.max(0, i - half); j <= Math.min(values.length - 1, i + half); j++) {
      if (values[j] === null) continue;
      sum += values[j]; n += 1;
      if (errors && errors[j] !== null) square += errors[j] ** 2; else known = false;
    }
    out.push(value === null || !n ? null : sum / n);
    if (errors) outErrors.push(n && known ? Math.sqrt(square) / n : null);
  });
  return { values: out, errors: outErrors };
}

function frame(width, height, xs, low, high) {
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img" });
  const first = xs[0], last = xs[xs.length - 1];
  const x = (v) => (last === first ? (PAD.left + width - PAD.right) / 2 : PAD.left + ((v - first) / (last - first)) * (width - PAD.left - PAD.right));
  const y = (v) => height - PAD.bottom - ((v - low) / (high - low)) * (height - PAD.top - PAD.bottom);
  const levels = ticks(low, high, 6);
  // Neighbouring ticks must not read the same, however far from zero they lie.
  const label = new Set(levels.map(short)).size === levels.length ? short : (t) => String(Number(t.toPrecision(6)));
  for (const t of levels) {
    root.append(svg("line", { class: "axis", x1: PAD.left, x2: width - PAD.right, y1: y(t), y2: y(t) }));
    root.append(svg("text", { x: PAD.left - 6, y: y(t) + 4, "text-anchor": "end" }, label(t)));
  }
  const marks = last === first ? [first] : ticks(first, last, Math.max(2, Math.floor(width / 60))).filter(Number.isInteger);
  for (const t of marks) {
    const anchor = x(t) > width - 24 ? "end" : "middle";
    root.append(svg("text", { x: x(t), y: height - 6, "text-anchor": anchor }, t));
  }
  return { root, x, y };
}

function legend(series, square) {
  return el("div", { class: "legend" }, ...series.map((s) => {
    const swatch = el("i", square ? { class: "square" } : {});
    swatch.style.background = s.color;
    return el("span", {}, swatch, s.label);
  }));
}

function card(title, note, series, square) {
  const box = el("div", { class: "card chart" }, el("h3", {}, title));
  if (note) box.append(el("p", { class: "note" }, note));
  if (series) box.append(legend(series, square));
  return box;
}

// Values under the pointer, in one tooltip shared by all charts.
function hover(root, xs, x, width, height, describe) {
  const tip = document.getElementById("tip");
  const line = svg("line", { class: "cursor", y1: PAD.top, y2: height - PAD.bottom, visibility: "hidden" });
  root.append(line);
  root.addEventListener("pointermove", (event) => {
    const box = root.getBoundingClientRect(), at = ((event.clientX - box.left) / box.width) * width;
    let best = 0;
    xs.forEach((v, i) => { if (Math.abs(x(v) - at) < Math.abs(x(xs[best]) - at)) best = i; });
    line.setAttribute("x1", x(xs[best])); line.setAttribute("x2", x(xs[best]));
    line.setAttribute("visibility", "visible");
    tip.textContent = `iteration ${xs[best]}\n${describe(best)}`;
    tip.hidden = false;
    const room = window.innerWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, room))}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 8))}px`;
  });
  root.addEventListener("pointerleave", () => { tip.hidden = true; line.setAttribute("visibility", "hidden"); });
}

function path(xs, values, x, y) {
  let d = "", open = false;
  values.forEach((v, i) => {
    if (v === null) { open = false; return; }
    d += `${open ? "L" : "M"}${x(xs[i]).toFixed(1)} ${y(v).toFixed(1)}`;
    open = true;
  });
  return d;
}

// The 95 % interval of a mean, or what a series says itself: from the smallest to the largest of several seeds.
function bounds(s, i) {
  if (s.low) return s.low[i] === null ? null : [s.low[i], s.high[i]];
  if (!s.errors || s.values[i] === null || s.errors[i] === null) return null;
  return [s.values[i] - 1.96 * s.errors[i], s.values[i] + 1.96 * s.errors[i]];
}

function band(xs, s, x, y, low, high) {
  const points = xs.map((_, i) => i).filter((i) => bounds(s, i));
  if (points.length < 2) return null;
  const clamp = (v) => y(Math.min(high, Math.max(low, v)));
  const up = points.map((i) => `${x(xs[i]).toFixed(1)} ${clamp(bounds(s, i)[1]).toFixed(1)}`);
  const down = points.reverse().map((i) => `${x(xs[i]).toFixed(1)} ${clamp(bounds(s, i)[0]).toFixed(1)}`);
  return `M${up.join("L")}L${down.join("L")}Z`;
}

// series: [{label, color, values, errors? or low and high}] over the iterations xs.
function lineChart({ title, note, xs, series, smooth = 1, zero = false, sparse = false, several = false, share = false }) {
  const box = card(title, note, several || series.length > 1 ? series : null);
  const width = sparse ? 1 : smooth, even = (values) => values && smoothed(values, null, width).values;
  const shown = series.map((s) => ({ ...s, ...smoothed(s.values, s.errors, width), low: even(s.low), high: even(s.high) }));
  box.draw = (width, height = 200) => {
    const all = shown.flatMap((s) => s.values).filter((v) => v !== null);
    let low = Math.min(...all), high = Math.max(...all);
    // A flat curve gets some height. Bands are shown whole for shares; elsewhere they must not flatten the curves.
    const span = Math.max(high - low, 0.1 * Math.max(Math.abs(low), Math.abs(high))) || 0.2;
    if (low === high) { low -= zero && low === 0 ? 0 : span / 2; high += zero && high === 0 ? 1 : span / 2; }
    const [least, most] = share ? [0, 1] : [low - 0.5 * span, high + 0.5 * span];
    for (const s of shown) xs.forEach((_, i) => {
      const around = bounds(s, i);
      if (!around) return;
      low = Math.max(least, Math.min(low, around[0]));
      high = Math.min(most, Math.max(high, around[1]));
    });
    if (zero) { low = Math.min(0, low); high = Math.max(0, high); }
    const room = (high - low) * 0.04;
    if (high > 0 || !zero) high += room;
    if (!zero) low -= room;
    if (share) { low = Math.max(0, low); high = Math.min(1, high); }  // nothing lies beyond all or none
    const { root, x, y } = frame(width, height, xs, low, high);
    root.setAttribute("aria-label", title);
    for (const s of shown) {
      const area = band(xs, s, x, y, low, high);
      if (area) root.append(svg("path", { d: area, fill: s.color, "fill-opacity": 0.16 }));
    }
    for (const s of shown) {
      // A point without neighbours makes no line: it gets a dot.
      const alone = (i) => (s.values[i - 1] ?? null) === null && (s.values[i + 1] ?? null) === null;
      s.values.forEach((v, i) => { if (v !== null && (sparse || alone(i))) root.append(svg("circle", { cx: x(xs[i]), cy: y(v), r: 2.5, fill: s.color })); });
      const joined = sparse ? s.values.map((v, i) => [v, i]).filter(([v]) => v !== null) : null;
      const d = joined ? path(joined.map(([, i]) => xs[i]), joined.map(([v]) => v), x, y) : path(xs, s.values, x, y);
      root.append(svg("path", { d, fill: "none", stroke: s.color, "stroke-width": 1.7, "stroke-linejoin": "round" }));
    }
    hover(root, xs, x, width, height, (i) => shown.filter((s) => s.values[i] !== null).map((s) => {
      const around = bounds(s, i);
      const told = !around ? "" : s.low ? ` (${short(around[0])} to ${short(around[1])})` : ` ± ${short(1.96 * s.errors[i])}`;
      return `${s.label}: ${short(s.values[i])}${told}`;
    }).join("\n"));
    return root;
  };
  return box;
}

// Areas upon each other; what is missing counts as nothing.
function stackedChart({ title, note, xs, series, smooth = 1 }) {
  const box = card(title, note, series, true);
  const shown = series.map((s) => ({ ...s, values: smoothed(s.values.map((v) => v ?? 0), null, smooth).values }));
  box.draw = (width, height = 200) => {
    const totals = xs.map((_, i) => shown.reduce((sum, s) => sum + s.values[i], 0));
    const { root, x, y } = frame(width, height, xs, 0, Math.max(...totals) || 1);
    root.setAttribute("aria-label", title);
    let below = xs.map(() => 0);
    const wide = xs.length === 1 ? [PAD.left, width - PAD.right] : null;
    for (const s of shown) {
      const above = below.map((v, i) => v + s.values[i]);
      const up = above.map((v, i) => `${x(xs[i]).toFixed(1)} ${y(v).toFixed(1)}`).join("L");
      const down = below.map((v, i) => `${x(xs[i]).toFixed(1)} ${y(v).toFixed(1)}`).reverse().join("L");
      if (wide) root.append(svg("rect", { x: wide[0], width: wide[1] - wide[0], y: y(above[0]), height: y(below[0]) - y(above[0]), fill: s.color, "fill-opacity": 0.75 }));
      else root.append(svg("path", { d: `M${up}L${down}Z`, fill: s.color, "fill-opacity": 0.75 }));
      below = above;
    }
    hover(root, xs, x, width, height, (i) => shown.filter((s) => s.values[i]).map((s) => `${s.label}: ${short(s.values[i])}`).join("\n"));
    return root;
  };
  return box;
}

// bins: one list of values per bin, from the lowest to the highest; labels: what each bin is.
function heatMap({ title, note, xs, bins, labels }) {
  const box = card(title, note);
  box.draw = (width, height = 200) => {
    const columns = Math.min(xs.length, 160), per = xs.length / columns;
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title });
    root.setAttribute("shape-rendering", "crispEdges");
    const w = (width - PAD.left - PAD.right) / columns, h = (height - PAD.top - PAD.bottom) / bins.length;
    const edge = (c) => Math.round(PAD.left + c * w);  // whole pixels: neither seams nor overlaps
    const centre = (i) => PAD.left + (i / per + 0.5) * w;
    bins.forEach((values, b) => {
      const top = height - PAD.bottom - (b + 1) * h;
      root.append(svg("text", { x: PAD.left - 6, y: top + h / 2 + 4, "text-anchor": "end" }, labels[b]));
      for (let c = 0; c < columns; c++) {
        const part = values.slice(Math.floor(c * per), Math.max(Math.floor(c * per) + 1, Math.floor((c + 1) * per))).filter((v) => v !== null);
        const mean = part.length ? part.reduce((a, v) => a + v, 0) / part.length : 0;
        // The root makes rare bins visible beside the two ends, where most tasks lie.
        if (mean > 0) root.append(svg("rect", { x: edge(c), y: top, width: edge(c + 1) - edge(c), height: h - 1, fill: "var(--c0)", "fill-opacity": Math.sqrt(mean).toFixed(3) }));
      }
    });
    const last = xs.length - 1;
    root.append(svg("text", { x: PAD.left, y: height - 6 }, xs[0]));
    root.append(svg("text", { x: width - PAD.right, y: height - 6, "text-anchor": "end" }, xs[last]));
    const position = new Map(xs.map((v, i) => [v, centre(i)]));
    hover(root, xs, (v) => position.get(v), width, height, (i) => bins.map((values, b) => `${labels[b]}: ${short(values[i])}`).reverse().join("\n"));
    return root;
  };
  return box;
}

// Draws when it comes into view, and again when its width changes.
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { redraw(entry.target); seen.unobserve(entry.target); }
}, { rootMargin: "300px" });
const sized = new ResizeObserver((entries) => { for (const entry of entries) if (entry.target.drawn) redraw(entry.target); });

function redraw(box) {
  const width = Math.round(box.clientWidth - 28);
  if (width < 50 || box.drawn === width) return;
  box.drawn = width;
  box.querySelector("svg")?.remove();
  box.append(box.draw(width));
}

function place(box) { seen.observe(box); sized.observe(box); return box; }
