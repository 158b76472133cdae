"use strict";
// What is shown of one run, section by section. A chart without data is left out; a section without charts too.

const KINDS = ["deduction", "abduction", "induction", "error"];  // and, where the page is opened, a user's own
const addKinds = (runs) => {
  for (const name of runs.flatMap((run) => Object.keys(run.series))) {
    const kind = name.match(/^propose\/(\w+)\/valid_rate$/)?.[1];
    if (kind && !KINDS.includes(kind)) KINDS.push(kind);
  }
};
const STAGE_LABEL = /^time\//;

const kindColor = (kind) => color(Math.max(0, KINDS.indexOf(kind)));
const has = (run, name) => name in run.series;
const namesLike = (run, pattern) => Object.keys(run.series).filter((name) => pattern.test(name));

const SHARE = /\/(valid_rate|full_rate|disagreement|accuracy|format_error_rate|clipped|duplicate_rate|agree_rate|repeats|solve_rate\/mean|occupancy)$/;

function batch(run) { return Number(run.config.batch_size) || null; }

// The standard error of a mean, from what the run wrote down beside it; null where nothing tells it.
function standardErrors(run, name) {
  const n = batch(run), values = run.series[name];
  if (has(run, `${name}_se`)) return run.series[`${name}_se`];
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
    const counts = run.series[`estimate/${name.split("/")[1]}/tasks`] ?? run.series[`propose/${name.split("/")[1]}/valid_rate`]?.map((v) => v * n);
    if (!bins.length || !counts) return null;
    return values.map((mean, i) => {
      const tasks = counts[i];
      if (mean === null || !tasks) return null;
      const variance = bins.reduce((sum, bin, b) => sum + (bin[i] ?? 0) * (rates[b] - mean) ** 2, 0);
      return Math.sqrt(variance / tasks);
    });
  }
  return null;
}

// Bins at rates that this number of attempts cannot give are left out: they would be empty rows.
function histogram(run, kind) {
  const names = namesLike(run, new RegExp(`^estimate/${kind}/solve_rate/hist_\\d+$`)).sort((a, b) => Number(a.split("_").pop()) - Number(b.split("_").pop()));
  const last = names.length - 1, attempts = Number(run.config["tasks.estimate_attempts"]) || last;
  const reachable = new Set(Array.from({ length: attempts + 1 }, (_, k) => Math.round((k / attempts) * last)));
  const kept = names.map((name, b) => [name, b]).filter(([name, b]) => reachable.has(b) || run.series[name].some((v) => v));
  return { bins: kept.map(([name]) => run.series[name]), rates: kept.map(([, b]) => (last ? b / last : 0)) };
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
      kinds("Proposals that were there already", "propose/*/duplicate_rate"), kinds("Proposals that found the buffer full", "propose/*/full_rate"), ...rewardParts(run, smooth),
    ]],
    ["Difficulty", [
      kinds("Mean solve rate of new tasks", "estimate/*/solve_rate/mean"), kinds("Tasks whose attempts all agree", "estimate/*/agree_rate"),
      ...each((kind) => {
        const { bins, rates } = histogram(run, kind);
        return bins.length ? heatMap({ title: `Solve rates: ${kind}`, note: "share of this iteration's tasks at each solve rate; the fuller the colour, the more", xs: run.iterations, bins, labels: rates.map(short) }) : null;
      }),
      kinds("Answers to one task that differ", "estimate/*/disagreement"),
      some("Groups whose rewards do not vary", [["groups", "advantage/flat_groups"], ["groups", "advantage/zero_groups"]], { zero: true }),
    ]],
    ["Lengths", [
      ...["propose", "solve"].flatMap((role) => [
        kinds(`Tokens, ${role}: mean`, `${role}/*/length/mean`), kinds(`Tokens, ${role}: 95th percentile`, `${role}/*/length/p95`),
        kinds(`Cut at the limit, ${role}`, `${role}/*/length/clipped`), kinds(`Ends in repeated text, ${role}`, `${role}/*/repeats`),
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
      some("Clipped by PPO", [["below", "learner/clip/low"], ["above", "learner/clip/high"]], { zero: true }),
      some("Update beside the weights", [["ratio", "learner/update/ratio"]]), some("Padding", [["share", "learner/padding_share"]], { zero: true }),
      ...["propose", "solve"].flatMap((role) => advantages(run, smooth, role)),
    ]],
    ["Time", [
      stages(run, smooth), some("Tokens per second", [["tokens/s", "engine/tokens_per_s"]], { zero: true }),
      some("Tokens per second, by phase", [["prefill", "engine/prefill_tokens_per_s"], ["decode", "engine/decode_tokens_per_s"]], { zero: true }),
      some("Slots in use", [["all the time", "engine/occupancy"], ["while something waits", "engine/occupancy_queued"]], { zero: true }),
      some("Device waits for the host, seconds", [["for verdicts", "time/waiting_for_executor"], ["between rounds", "engine/device_waited_s"]], { zero: true }),
      some("Executor, milliseconds at the 99th percentile", [["in the queue", "executor/queue_p99_ms"], ["running", "executor/run_p99_ms"]], { zero: true }),
    ]],
    ["System", [
      some("Memory of the main process, MB", [["MB", "system/rss_mb"]], { zero: true }),
      some("Memory of the first device, MB", [["in use", "system/device_mb"], ["most so far", "system/device_peak_mb"]], { zero: true }),
      some("Programs compiled", [["all", "system/compilations"], ["while sampling", "engine/compilations"]], { zero: true, plain: true }),
      some("Seconds compiling", [["s", "system/compile_s"]], { zero: true }),
      some("Pages of the cache, most in use", [["pages", "engine/pages_most"]], { zero: true }), some("Samples sent back to wait", [["count", "engine/preemptions"]], { zero: true }),
      some("Load of the machine", [["1 minute", "system/load_1m"]], { zero: true }),
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

function advantages(run, smooth, role) {
  const what = new Set(namesLike(run, new RegExp(`^${role}/\\w+/advantage/`)).map((name) => name.split("/advantage/")[1]));
  return [...what].map((part) => perKind(run, smooth, `Advantage, ${role}: ${part.replaceAll("_", " ")}`, `${role}/*/advantage/${part}`));
}

// Playing is shown in its parts, as far as the engine tells them: stages stream through each other, so there is no
// time of proposing or of solving alone.
function stages(run, smooth) {
  const of = (name) => run.series[name] ?? [], at = (name, i) => of(name)[i] ?? 0;
  const per = (tokens, rate) => run.iterations.map((_, i) => (at(rate, i) ? at(tokens, i) / at(rate, i) : 0));
  const inside = [["prefill", per("engine/prompt_tokens", "engine/prefill_tokens_per_s")], ["decode", per("engine/tokens", "engine/decode_tokens_per_s")],
    ["wait for verdicts", run.iterations.map((_, i) => at("time/waiting_for_executor", i))]].filter(([, values]) => values.some((v) => v));
  const rest = run.iterations.map((_, i) => Math.max(0, at("time/play", i) - inside.reduce((sum, [, values]) => sum + values[i], 0)));
  const others = namesLike(run, STAGE_LABEL).filter((name) => !/waiting|total|time\/play$/.test(name)).map((name) => [name.replace(STAGE_LABEL, ""), of(name)]);
  const parts = has(run, "time/play") ? [...inside, [inside.length ? "rest of playing" : "play", rest], ...others] : others;
  const shown = parts.filter(([, values]) => values.some((v) => v)).map(([label, values], i) => ({ label, color: color(i), values }));
  return shown.length ? stackedChart({ title: "Seconds per stage", xs: run.iterations, series: shown, smooth }) : null;
}

// One chart for each suite and measure: `eval/<suite>/<kind>/accuracy` has a line per kind, `eval/<suite>/<measure>` is one of its suite's.
function evaluations(run) {
  const charts = new Map();
  for (const name of namesLike(run, /^eval\//)) {
    if (name.endsWith("_se")) continue;
    const [suite, ...rest] = name.split("/").slice(1), measure = rest.pop();
    const title = rest.length ? `${suite}: ${measure}` : suite;
    charts.set(title, [...(charts.get(title) ?? []), rest.length ? [rest.join(" "), name, KINDS.includes(rest[0]) ? kindColor(rest[0]) : undefined] : [measure, name]]);
  }
  return [...charts].map(([title, named]) => line(run, 1, title, named, { sparse: true, several: true }));
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
