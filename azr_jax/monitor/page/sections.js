"use strict";
// What is shown of one run, section by section. A chart without data is left out; a section without charts too.

const KINDS = ["deduction", "abduction", "induction", "error"];
const STAGE_LABEL = /^time\//;

const kindColor = (kind) => color(Math.max(0, KINDS.indexOf(kind)));
const has = (run, name) => name in run.series;
const namesLike = (run, pattern) => Object.keys(run.series).filter((name) => pattern.test(name));

const SHARE = /\/(valid_rate|accuracy|format_error_rate|clipped|duplicate_rate|agree_rate|repeats|solve_rate\/mean|occupancy)$/;

function batch(run) { return Number(run.config.batch_size) || null; }

// The standard error of a mean, from what the run wrote down beside it; null where nothing tells it.
function standardErrors(run, name) {
  const n = batch(run), values = run.series[name];
  if (!n) return null;
  if (name.endsWith("/mean") && has(run, name.replace(/mean$/, "std"))) {
    return run.series[name.replace(/mean$/, "std")].map((s) => (s === null ? null : s / Math.sqrt(n)));
  }
  if (/\/(valid_rate|accuracy|format_error_rate|clipped|duplicate_rate|repeats)$/.test(name) && name.split("/").length > 2) {
    // Agresti and Coull: does not claim certainty at 0 and 1.
    return values.map((p) => { if (p === null) return null; const q = (p * n + 2) / (n + 4); return Math.sqrt((q * (1 - q)) / (n + 4)); });
  }
  if (/^estimate\/.*\/solve_rate\/mean$/.test(name)) {
    const { bins, rates } = histogram(run, name.split("/")[1]);
    const valid = run.series[`propose/${name.split("/")[1]}/valid_rate`];
    if (!bins.length || !valid) return null;
    return values.map((mean, i) => {
      const tasks = valid[i] * n;
      if (mean === null || !tasks) return null;
      const variance = bins.reduce((sum, bin, b) => sum + (bin[i] ?? 0) * (rates[b] - mean) ** 2, 0);
      return Math.sqrt(variance / tasks);
    });
  }
  return null;
}

function histogram(run, kind) {
  const names = namesLike(run, new RegExp(`^estimate/${kind}/solve_rate/hist_\\d+$`)).sort((a, b) => Number(a.split("_").pop()) - Number(b.split("_").pop()));
  return { bins: names.map((name) => run.series[name]), rates: names.map((_, b) => (names.length > 1 ? b / (names.length - 1) : 0)) };
}

function line(run, smooth, title, named, options = {}) {
  const series = named.filter(([, name]) => has(run, name)).map(([label, name, paint], i) => (
    { label, color: paint ?? color(i), values: run.series[name], errors: options.plain ? null : standardErrors(run, name) }));
  return series.length ? lineChart({ title, xs: run.iterations, series, smooth, several: new Set(named.map(([label]) => label)).size > 1, share: named.every(([, name]) => SHARE.test(name)), ...options }) : null;
}

const perKind = (run, smooth, title, pattern, options) =>
  line(run, smooth, title, KINDS.map((kind) => [kind, pattern.replace("*", kind), kindColor(kind)]), options);

// The largest shares one by one, all others together, so that a legend stays readable.
function shares(run, smooth, title, start, note) {
  const total = (name) => run.series[name].reduce((sum, v) => sum + (v ?? 0), 0);
  const names = Object.keys(run.series).filter((name) => name.startsWith(start)).sort((a, b) => total(b) - total(a));
  if (!names.length) return null;
  // A reason has the same colour for every kind.
  const reason = (name) => name.slice(start.length), part = start.split("/")[2];
  const all = [...new Set(namesLike(run, new RegExp(`/${part}/`)).map((name) => name.split(`/${part}/`)[1]))].sort();
  const series = names.slice(0, COLORS - 1).map((name) => ({ label: reason(name), color: color(all.indexOf(reason(name)) % (COLORS - 1)), values: run.series[name] }));
  const rest = names.slice(COLORS - 1);
  if (rest.length) series.push({ label: `${rest.length} others`, color: color(COLORS - 1), values: run.iterations.map((_, i) => rest.reduce((sum, name) => sum + (run.series[name][i] ?? 0), 0)) });
  return stackedChart({ title, note, xs: run.iterations, series, smooth });
}

function sections(run, smooth) {
  const kinds = (title, pattern, options) => perKind(run, smooth, title, pattern, options);
  const some = (title, named, options) => line(run, smooth, title, named, options);
  const each = (make) => KINDS.map(make);
  return [
    ["Rewards", [
      kinds("Proposer's reward", "propose/*/reward/mean"), kinds("Solver's reward", "solve/*/reward/mean"),
      kinds("Valid proposals", "propose/*/valid_rate"), kinds("Solver's accuracy", "solve/*/accuracy"),
      kinds("Format errors when proposing", "propose/*/format_error_rate"), kinds("Format errors when solving", "solve/*/format_error_rate"),
      kinds("Proposals that were there already", "propose/*/duplicate_rate"), ...rewardParts(run, smooth),
    ]],
    ["Difficulty", [
      kinds("Mean solve rate of new tasks", "estimate/*/solve_rate/mean"), kinds("Tasks whose attempts all agree", "estimate/*/agree_rate"),
      ...each((kind) => {
        const { bins, rates } = histogram(run, kind);
        return bins.length ? heatMap({ title: `Solve rates: ${kind}`, note: "share of this iteration's tasks at each solve rate; the fuller the colour, the more", xs: run.iterations, bins, labels: rates.map(short) }) : null;
      }),
      some("Groups whose rewards do not vary", [["groups", "advantage/flat_groups"], ["groups", "advantage/zero_groups"]], { zero: true }),
    ]],
    ["Lengths", [
      ...["propose", "solve"].flatMap((role) => [
        kinds(`Tokens, ${role}: mean`, `${role}/*/length/mean`), kinds(`Tokens, ${role}: 95th percentile`, `${role}/*/length/p95`),
        kinds(`Cut at the limit, ${role}`, `${role}/*/length/clipped`),
      ]),
      ...each((kind) => some(`Tokens of solutions, ${kind}: right and wrong`, [["right", `solve/${kind}/length/good`, "var(--c2)"], ["wrong", `solve/${kind}/length/bad`, "var(--c4)"]])),
    ]],
    ["Novelty", novelty(run, smooth)],
    ["Refusals", [
      ...each((kind) => shares(run, smooth, `Refused proposals: ${kind}`, `propose/${kind}/refused/`, "share of all proposals, by reason")),
      ...each((kind) => shares(run, smooth, `Wrong answers: ${kind}`, `solve/${kind}/wrong/`, "share of all answers, by reason")),
    ]],
    ["Buffers", [kinds("Tasks kept", "buffer/*/size", { zero: true }), kinds("Mean age in iterations", "buffer/*/age", { zero: true })]],
    ["Learner", [
      some("Loss", [["loss", "learner/loss"]]), some("Gradient norm", [["norm", "learner/gradient/norm"], ["norm", "learner/grad_norm"]]),
      some("Entropy", [["entropy", "learner/entropy"]]), some("Gap of sampler and learner: mean", [["mean", "learner/gap/mean"]], { zero: true }),
      some("Gap of sampler and learner: largest", [["largest", "learner/gap/max"]], { zero: true }),
      some("Update beside the weights", [["ratio", "learner/update/ratio"]]), some("Padding", [["share", "learner/padding_share"]], { zero: true }),
    ]],
    ["Time", [
      stages(run, smooth), some("Tokens per second", [["tokens/s", "engine/tokens_per_s"]], { zero: true }),
      some("Slots in use", [["share", "engine/occupancy"]], { zero: true }),
      some("Waiting for verdicts, seconds", [["waiting", "time/waiting_for_executor"]], { zero: true }),
      some("Memory of the main process, MB", [["MB", "system/rss_mb"]], { zero: true }), some("Compilations", [["count", "system/compilations"]], { zero: true }),
      some("Executor, milliseconds at the 99th percentile", [["in the queue", "executor/queue_p99_ms"], ["running", "executor/run_p99_ms"]], { zero: true }),
    ]],
    ["Evaluations", evaluations(run)],
  ].map(([title, charts]) => [title, charts.filter(Boolean)]).filter(([, charts]) => charts.length);
}

function rewardParts(run, smooth) {
  const parts = new Set(namesLike(run, /^(propose|solve)\/\w+\/reward\/(?!mean$|std$)/).map((name) => name.replace(/^(\w+)\/\w+\//, "$1/*/")));
  return [...parts].map((pattern) => perKind(run, smooth, `Part of the reward: ${pattern.replace("/*/reward/", " ")}`, pattern));
}

function novelty(run, smooth) {
  const found = namesLike(run, /^novelty\/|\/(complexity|halstead|ast_distance|diversity|distinct_\w+|lines|nearest\w*)(\/mean)?$/);
  const patterns = new Set(found.map((name) => name.split("/").map((part) => (KINDS.includes(part) ? "*" : part)).join("/")));
  return [...patterns].map((pattern) => pattern.includes("*") ? perKind(run, smooth, pattern.replace("*/", ""), pattern) : line(run, smooth, pattern, [[pattern, pattern]]));
}

function stages(run, smooth) {
  // Waiting for verdicts happens inside playing: it has its own chart, and would be counted twice here.
  const names = namesLike(run, STAGE_LABEL).filter((name) => !/waiting|total/.test(name));
  const series = names.map((name, i) => ({ label: name.replace(STAGE_LABEL, ""), color: color(i), values: run.series[name] }));
  return series.length ? stackedChart({ title: "Seconds per stage", xs: run.iterations, series, smooth }) : null;
}

function evaluations(run) {
  const suites = new Map();
  for (const name of namesLike(run, /^eval\//)) {
    const parts = name.split("/"), suite = parts.slice(1, -1).join(" ") || "scores";
    suites.set(suite, [...(suites.get(suite) ?? []), [parts[parts.length - 1], name]]);
  }
  return [...suites].map(([suite, named]) => line(run, 1, suite, named, { sparse: true }));
}

function everyMetric(run, smooth) {
  const field = el("input", { type: "search", placeholder: "part of a name, e.g. learner/gradient", "aria-label": "search metrics", size: 34, id: "metric" });
  const count = el("span", { class: "note" }), grid = el("div", { class: "grid" });
  const update = () => {
    const names = field.value ? Object.keys(run.series).filter((name) => name.includes(field.value)) : [];
    count.textContent = field.value ? ` ${names.length} of ${Object.keys(run.series).length}${names.length > 24 ? ", the first 24 are drawn" : ""}` : ` ${Object.keys(run.series).length} metrics`;
    grid.replaceChildren(...names.slice(0, 24).map((name) => place(line(run, smooth, name, [[name, name]]))));
  };
  field.addEventListener("input", update);
  update();
  return el("div", {}, el("p", {}, field, count), grid);
}
