"use strict";
// Puts the page together: overview, sections of the chosen run, comparison, task viewer, config.

const data = JSON.parse(document.getElementById("data").textContent);
addKinds(data.runs);
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

// The head of the page: did it learn, is it healthy, how long to go.
const VERDICTS = { better: ["learned", "good"], worse: ["got worse", "bad"] };
const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
const plusMinus = (error) => (error === null ? "" : ` ±\u00a0${(196 * error).toFixed(1)}`);
const points = (one) => `${one.difference < 0 ? "\u2212" : "+"}${(100 * Math.abs(one.difference)).toFixed(1)}${plusMinus(one.error)}`;
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

function duration(seconds) {
  if (seconds === null) return "–";
  const [size, name] = [[86400, "days"], [3600, "h"], [60, "min"]].find(([s]) => seconds >= 2 * s) ?? [1, "s"];
  return `${Math.round(seconds / size)}\u00a0${name}`;
}

const headCard = (question, look, big, ...lines) =>
  el("div", { class: `card head ${look}` }, el("h3", {}, question), el("b", {}, big), el("span", {}, ...lines.flatMap((line, i) => (i ? [el("br"), line] : [line]))));

function learnedHead({ overall: one, once, config, progress }) {
  const question = "Did it learn?";
  if (!one) {
    if (!once) return headCard(question, "", "not known", "held-out tasks were not measured (eval.every, eval.suites)");
    const every = config["eval.every"], next = every ? every * (Math.floor(progress.done / every) + 1) : Infinity;
    return headCard(question, "", "not known yet", `held-out tasks: ${percent(once.mean)} at iteration ${once.iteration}`, next <= progress.total ? `measured again at iteration ${next}` : "not measured again (eval.every)");
  }
  const [word, look] = VERDICTS[one.verdict] ?? [one.verdict, ""];
  return headCard(question, look, points(one), `${word}: ${percent(one.before)} \u2192 ${percent(one.now)} of the held-out tasks, iterations ${one.iterations[0]} and ${one.iterations[1]}`);
}

const ALARMS_NEED = 10;  // they are judged on means over so many

function healthHead(run) {
  const { state } = run.progress, question = state === "finished" ? "Was it healthy at the end?" : "Is it healthy now?";
  const earlier = run.alarms.length - run.on.length, past = earlier ? `${plural(earlier, "alarm")} earlier` : "no alarm before";
  if (!run.iterations.length) return headCard(question, "", "nothing yet", "no iteration is written");
  if (state === "quiet") return headCard(question, "bad", "silent", `wrote last ${clockOf(run.progress.written)}; an iteration takes ${duration(run.progress.pace_s)}`, "stopped, killed, or standing still");
  if (!run.on.length && run.progress.done < ALARMS_NEED) return headCard(question, "", "no alarm yet", `most alarms need ${ALARMS_NEED} iterations to be raised`);
  if (!run.on.length) return headCard(question, "good", "yes", earlier ? `no alarm is on, ${past}` : "no alarm was raised");
  return headCard(question, "bad", `${plural(run.on.length, "alarm")} on`, ...[...new Set(run.on.map((a) => a.rule.replaceAll("_", " ")))].slice(0, 4), past);
}

const clockOf = (seconds) => new Date(1000 * seconds).toISOString().slice(0, 16).replace("T", " ") + " UTC";

function progressHead(run) {
  const { state, done, total, pace_s, left_s, written } = run.progress;
  const of = `iteration ${done} of ${total ?? "–"}`, pace = pace_s === null ? [] : [`${duration(pace_s)} each`];
  const last = written ? [`written ${clockOf(written)}`] : [];
  if (state === "finished") return headCard("How long to go?", "good", "finished", `all ${plural(total, "iteration")}`, ...last);
  const to_go = state === "starting" || left_s === null ? "not known yet" : `about ${duration(left_s)}`;
  return headCard("How long to go?", "", to_go, [of, ...pace].join(", "), state === "quiet" ? "if it still ran, or once it goes on" : last[0] ?? "nothing written yet");
}

function suiteTable(run) {
  if (run.learned.length < 2) return null;
  const rows = run.learned.map((one) => [one.suite, percent(one.before), percent(one.now), el("span", { class: (VERDICTS[one.verdict] ?? [])[1] ?? "" }, points(one))]);
  return el("div", { class: "card scroll" }, table(["held-out tasks", "before", "now", "points"], rows));
}

function overview(run) {
  const heads = [learnedHead(run), healthHead(run), progressHead(run)];
  const tiles = [
    tile(run, "valid proposals", "propose/valid_rate"),
    ...KINDS.map((kind) => tile(run, `accuracy, ${kind}`, `solve/${kind}/accuracy`)),
    ...KINDS.map((kind) => tile(run, `solve rate of new tasks, ${kind}`, `estimate/${kind}/solve_rate/mean`)),
    tile(run, "tokens per second", "engine/tokens_per_s"), tile(run, "seconds playing", "time/play"), tile(run, "seconds learning", "time/update"),
  ].filter(Boolean);
  const alarms = run.alarms.map((a) => el("div", { class: "card alarm" }, el("h3", {}, `Iteration ${a.iteration}: ${a.rule.replaceAll("_", " ")}`), `${a.subject}: ${a.seen}. ${a.advice}`));
  const which = data.runs.length > 1 ? el("p", { class: "note" }, `${run.name}, one of ${data.runs.length} runs; side by side under Comparison`) : null;
  return el("div", { class: "rows" }, which, el("div", { class: "heads" }, ...heads), suiteTable(run), el("p", { class: "note" }, "Held-out tasks are never trained on. Points: percentage points, ± is 95 %."), ...alarms, el("div", { class: "tiles" }, ...tiles), el("p", { class: "note" }, "Large: the mean of the last ten iterations (of half of them, where there are fewer than twenty); at first: of the first ten; ± is 95 %."));
}

const COMPARED = /^(propose\/\w+\/(valid_rate|reward\/mean)|propose\/valid_rate|solve\/\w+\/(accuracy|reward\/mean)|estimate\/\w+\/solve_rate\/mean|learner\/entropy|eval\/.*)$/;

// Runs that differ in their seed alone are one curve: the mean, and a band from the smallest to the largest.
function recipes() {
  const all = data.recipes, name = (r) => (r.runs.length > 1 ? `${r.name} (${plural(r.runs.length, "seed")})` : r.name);
  const xs = [...new Set(all.flatMap((r) => r.iterations))].sort((a, b) => a - b), boxes = [];
  for (const metric of [...new Set(all.flatMap((r) => Object.keys(r.series)))].filter((n) => COMPARED.test(n)).sort()) {
    const series = all.map((r, i) => ({ r, i })).filter(({ r }) => metric in r.series).map(({ r, i }) => {
      const at = new Map(r.iterations.map((v, k) => [v, k])), spread = (values) => xs.map((v) => (at.has(v) ? values[at.get(v)] : null));
      const { mean, low, high } = r.series[metric];
      return { label: name(r), color: color(i), values: spread(mean), ...(r.runs.length > 1 ? { low: spread(low), high: spread(high) } : {}) };
    });
    boxes.push(place(lineChart({ title: metric, xs, series, several: true, smooth: Number(choice.smooth.value), sparse: metric.startsWith("eval/"), share: SHARE.test(metric) })));
  }
  const learned = all.filter((r) => r.overall).map((r) => [name(r), percent(r.overall.before), percent(r.overall.now), points(r.overall), (VERDICTS[r.overall.verdict] ?? [r.overall.verdict])[0]]);
  const told = ([mean, error]) => `${short(mean)}${error === null ? "" : ` ± ${two(error)}`}`;
  const minus = ([mean, error]) => `${signed(mean)}${error === null ? "" : ` ± ${two(error)}`}`;
  const head = ["metric", ...all.map(name), ...all.slice(1).map((r) => `${r.name} minus ${all[0].name}`)];
  return [
    ...(learned.length ? [el("div", { class: "card scroll" }, el("h3", {}, "Did they learn?"), table(["held-out tasks", "before", "now", "points", ""], learned))] : []),
    el("div", { class: "card" }, el("h3", {}, "Over seeds"), el("p", { class: "note" }, "means of the later half; ± is one standard error over seeds, and with few seeds itself uncertain"), el("div", { class: "scroll" }, table(head, data.over_seeds.map((d) => [d.name, ...d.means.map(told), ...d.minus.map(minus)])))),
    el("p", { class: "note" }, "Curves: the mean over seeds; bands from the smallest seed to the largest."),
    el("div", { class: "grid" }, ...boxes),
  ];
}

function comparison() {
  const [first, ...others] = data.runs, boxes = [];
  const fields = el("div", { class: "card" }, el("h3", {}, "Fields that differ"), el("div", { class: "scroll" }, table(["field", ...data.runs.map((r) => r.name)], data.differing.map(([field, values]) => [field, ...values.map((v) => JSON.stringify(v))]))));
  if (data.recipes.length) return el("div", { class: "rows" }, fields, ...recipes());
  const names = new Set(data.runs.flatMap((run) => Object.keys(run.series)));
  const wanted = [...names].filter((n) => !n.endsWith("_se") && COMPARED.test(n)).sort();
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
  return el("div", { class: "rows" }, fields, ...differences, el("div", { class: "grid" }, ...boxes));
}

function table(head, rows) {
  return el("table", {}, el("tr", {}, ...head.map((h) => el("th", {}, h))), ...rows.map((row) => el("tr", {}, ...row.map((cell) => el("td", {}, cell instanceof Node ? cell : String(cell))))));
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
