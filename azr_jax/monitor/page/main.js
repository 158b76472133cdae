"use strict";
// Puts the page together: overview, sections of the chosen run, comparison, task viewer, config.

const data = JSON.parse(document.getElementById("data").textContent);
const choice = { run: document.getElementById("run"), smooth: document.getElementById("smooth") };

function halves(values) {
  const known = values.filter((v) => v !== null), n = Math.min(10, Math.floor(known.length / 2));
  const stats = (part) => { const m = part.reduce((a, v) => a + v, 0) / part.length; return [m, Math.sqrt(part.reduce((a, v) => a + (v - m) ** 2, 0) / Math.max(1, part.length - 1) / part.length)]; };
  return n < 2 ? null : { n, first: stats(known.slice(0, n)), last: stats(known.slice(-n)) };
}

const two = (value) => (value ? String(Number(value.toPrecision(2))) : "0");

function tile(run, label, name) {
  const values = run.series[name];
  if (!values) return null;
  const h = halves(values), latest = values.filter((v) => v !== null).pop();
  if (!h) return el("div", { class: "card" }, el("b", {}, short(latest)), el("span", {}, label));
  return el("div", { class: "card" }, el("b", {}, short(h.last[0])), el("span", {}, label, el("br"), `±\u00a0${two(1.96 * h.last[1])}, at first ${short(h.first[0])}\u00a0±\u00a0${two(1.96 * h.first[1])}`));
}

// The head of the page: what the run did to tasks that it never trained on.
const VERDICTS = { better: ["learned", "good"], worse: ["got worse", "bad"] };
const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

function learnedCards(run) {
  if (!run.learned.length) return [el("p", { class: "note" }, "Whether it learned: not known, held-out tasks were not measured twice (eval.every, eval.suites).")];
  const cards = run.learned.map((one) => {
    const [word, look] = VERDICTS[one.verdict] ?? [one.verdict, ""];
    const error = one.error === null ? "" : ` ±\u00a0${(196 * one.error).toFixed(1)}`;
    const change = `${one.difference < 0 ? "\u2212" : "+"}${(100 * Math.abs(one.difference)).toFixed(1)}${error}`;
    return el("div", { class: `card learned ${look}` }, el("b", {}, change), el("span", {}, `${one.suite}: ${word}`, el("br"), `${percent(one.before)} \u2192 ${percent(one.now)}, iterations ${one.iterations[0]} and ${one.iterations[1]}`));
  });
  return [el("div", { class: "tiles wide" }, ...cards), el("p", { class: "note" }, "Held-out tasks, never trained on: percentage points from the first measurement to the last; ± is 95 %.")];
}

function overview(run) {
  const tiles = [
    el("div", { class: "card" }, el("b", {}, run.iterations.length ? run.iterations[run.iterations.length - 1] : 0), el("span", {}, `iterations of ${run.config.iterations ?? "–"}`)),
    tile(run, "valid proposals", "propose/valid_rate"),
    ...KINDS.map((kind) => tile(run, `accuracy, ${kind}`, `solve/${kind}/accuracy`)),
    ...KINDS.map((kind) => tile(run, `solve rate of new tasks, ${kind}`, `estimate/${kind}/solve_rate/mean`)),
    tile(run, "tokens per second", "engine/tokens_per_s"), tile(run, "seconds playing", "time/play"), tile(run, "seconds learning", "time/update"),
  ].filter(Boolean);
  const alarms = run.alarms.map((a) => el("div", { class: "card alarm" }, el("h3", {}, `Iteration ${a.iteration}: ${a.rule.replaceAll("_", " ")}`), `${a.subject}: ${a.seen}. ${a.advice}`));
  return el("div", {}, ...learnedCards(run), el("div", { class: "tiles" }, ...tiles), el("p", { class: "note" }, "Large: the mean of the last ten iterations (of half of them, where there are fewer than twenty); at first: of the first ten; ± is 95 %."), ...(alarms.length ? alarms : [el("p", { class: "note" }, "No alarm was raised.")]));
}

function comparison() {
  const [first, ...others] = data.runs, boxes = [];
  const names = new Set(data.runs.flatMap((run) => Object.keys(run.series)));
  const wanted = [...names].filter((n) => !n.endsWith("_se") && /^(propose\/\w+\/(valid_rate|reward\/mean)|propose\/valid_rate|solve\/\w+\/(accuracy|reward\/mean)|estimate\/\w+\/solve_rate\/mean|learner\/entropy|eval\/.*)$/.test(n)).sort();
  const xs = [...new Set(data.runs.flatMap((run) => run.iterations))].sort((a, b) => a - b);
  for (const name of wanted) {
    const series = data.runs.map((run, i) => ({ run, i })).filter(({ run }) => has(run, name)).map(({ run, i }) => {
      const at = new Map(run.iterations.map((v, k) => [v, k])), errors = standardErrors(run, name);
      const spread = (values) => xs.map((v) => (at.has(v) ? values[at.get(v)] : null));
      return { label: run.name, color: color(i), values: spread(run.series[name]), errors: errors && spread(errors) };
    });
    boxes.push(place(lineChart({ title: name, xs, series, smooth: Number(choice.smooth.value), sparse: name.startsWith("eval/"), share: SHARE.test(name) })));
  }
  const differences = others.map((run, i) => el("div", { class: "card" },
    el("h3", {}, `${run.name} minus ${first.name}`), el("p", { class: "note" }, "paired by iteration over the later half of the shared iterations; ± is 95 %, from up to ten blocks"),
    el("div", { class: "scroll" }, table(["metric", first.name, run.name, "difference", "±"], data.paired[i].map((d) => [d.name, short(d.first), short(d.other), signed(d.difference), d.error === null ? "–" : short(1.96 * d.error)])))));
  const fields = el("div", { class: "card" }, el("h3", {}, "Fields that differ"), el("div", { class: "scroll" }, table(["field", ...data.runs.map((r) => r.name)], data.differing.map(([field, values]) => [field, ...values.map((v) => JSON.stringify(v))]))));
  return el("div", { class: "rows" }, fields, ...differences, el("div", { class: "grid" }, ...boxes));
}

function table(head, rows) {
  return el("table", {}, el("tr", {}, ...head.map((h) => el("th", {}, h))), ...rows.map((row) => el("tr", {}, ...row.map((cell) => el("td", {}, String(cell))))));
}

function config(run) {
  const rows = Object.entries(run.config).map(([field, value]) => [field, JSON.stringify(value)]);
  return el("div", { class: "card" }, el("h3", {}, "What differs from configs/base.py"), code(run.diff || "nothing"),
    el("details", {}, el("summary", {}, "every field"), el("div", { class: "scroll" }, el("table", {}, ...rows.map(([field, value]) => el("tr", {}, el("td", {}, field), el("td", { class: "config" }, value)))))));
}

function render() {
  const run = data.runs[Number(choice.run.value)], smooth = Number(choice.smooth.value);
  const parts = [["Overview", overview(run)]];
  if (data.runs.length > 1) parts.push(["Comparison", comparison()]);
  for (const [title, charts] of sections(run, smooth)) parts.push([title, el("div", { class: "grid" }, ...charts.map(place))]);
  if (run.tasks.length) parts.push(["Tasks", viewer(run)]);
  if (Object.keys(run.series).length) parts.push(["Every metric", everyMetric(run, smooth)]);
  parts.push(["Config", config(run)]);
  const id = (title) => title.toLowerCase().replaceAll(" ", "-");
  document.getElementById("nav").replaceChildren(...parts.map(([title]) => el("a", { href: `#${id(title)}` }, title)));
  document.getElementById("main").replaceChildren(...parts.map(([title, body]) => el("section", {}, el("h2", { id: id(title) }, title), body)));
}

const darkSystem = window.matchMedia("(prefers-color-scheme: dark)");
document.documentElement.classList.toggle("dark", darkSystem.matches);
darkSystem.addEventListener("change", (event) => document.documentElement.classList.toggle("dark", event.matches));
document.getElementById("theme").addEventListener("click", () => document.documentElement.classList.toggle("dark"));
for (const field of Object.values(choice)) field.addEventListener("change", render);
const longest = Math.max(...data.runs.map((run) => run.iterations.length));
if (longest >= 20) choice.smooth.value = longest >= 60 ? "10" : "5";
render();
