"use strict";
// The task viewer: filters, a list, and one task in full with its attempts and where it came from.

const PAGE = 100;
// Characters that are not seen, or that turn the text around them: shown as what they are.
// eslint-disable-next-line no-control-regex
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const TOKEN = /(#[^\n]*)|("""[\s\S]*?"""|'''[\s\S]*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|\b(def|return|if|elif|else|for|while|in|not|and|or|is|lambda|import|from|as|class|try|except|finally|raise|with|yield|pass|break|continue|assert|global|nonlocal|del|None|True|False)\b|\b(\d[\w.]*)\b/g;

const visible = (text) => String(text).replace(HIDDEN, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`);
const code = (text) => el("pre", {}, visible(text));

function highlighted(text) {
  const box = el("pre"), source = visible(text);
  let at = 0;
  for (const match of source.matchAll(TOKEN)) {
    const cls = match[1] ? "c" : match[2] ? "s" : match[3] ? "k" : "n";
    box.append(source.slice(at, match.index), el("span", { class: cls }, match[0]));
    at = match.index + match[0].length;
  }
  box.append(source.slice(at));
  return box;
}

function option(value, text) { return el("option", { value }, text ?? value); }
const rate = (task) => (task.solve_rate === null || task.solve_rate === undefined ? "–" : short(task.solve_rate));
const signed = (value) => (value === null || value === undefined ? "–" : `${value >= 0 ? "+" : ""}${short(value)}`);

function summary(task) {
  const state = task.refused ? visible(task.refused) : task.task_id === null ? "duplicate" : `task ${task.task_id}`;
  return [`${task.kind}, iteration ${task.iteration} `, el("small", {}, `${state} · solve rate ${rate(task)} · reward ${signed(task.reward)}`)];
}

function viewer(run) {
  const tasks = run.tasks.toReversed();
  const kinds = [...new Set(tasks.map((t) => t.kind))], reasons = [...new Set(tasks.map((t) => t.refused).filter(Boolean))].sort();
  const last = tasks.reduce((most, t) => Math.max(most, t.iteration), 0);
  const f = {
    kind: el("select", { id: "f-kind" }, option("", "all kinds"), ...kinds.map((k) => option(k))),
    state: el("select", { id: "f-state" }, option("", "accepted and refused"), option("ok", "accepted"), option("no", "refused"), ...reasons.map((r) => option(`r:${r}`, `refused: ${visible(r)}`))),
    from: el("input", { id: "f-from", type: "number", value: 0, min: 0 }), to: el("input", { id: "f-to", type: "number", value: last, min: 0 }),
    low: el("input", { id: "f-low", type: "number", value: 0, min: 0, max: 1, step: 0.125 }), high: el("input", { id: "f-high", type: "number", value: 1, min: 0, max: 1, step: 0.125 }),
    text: el("input", { id: "f-text", type: "search", placeholder: "text in program or completion", size: 28 }),
  };
  const list = el("div", { class: "card list", id: "list" }), detail = el("div", { class: "card", id: "detail" }), count = el("p", { class: "note", id: "count" });
  const byId = new Map(tasks.filter((t) => t.task_id !== null).map((t) => [t.task_id, t]));

  function fits(t) {
    const low = Number(f.low.value), high = Number(f.high.value), state = f.state.value;
    if (f.kind.value && t.kind !== f.kind.value) return false;
    if (state === "ok" && t.refused) return false;
    if (state === "no" && !t.refused) return false;
    if (state.startsWith("r:") && t.refused !== state.slice(2)) return false;
    if (t.iteration < Number(f.from.value) || t.iteration > Number(f.to.value)) return false;
    if ((low > 0 || high < 1) && (t.solve_rate === null || t.solve_rate < low || t.solve_rate > high)) return false;
    return !f.text.value || t.completion.includes(f.text.value) || Boolean(t.task && t.task.program.includes(f.text.value));
  }

  function fill() {
    const found = tasks.filter(fits);
    count.textContent = `${found.length} of ${tasks.length} sampled proposals; the run made ${run.proposals}, and ${run.solutions} solutions`;
    let shown = 0;
    list.replaceChildren();
    const more = () => {
      for (const t of found.slice(shown, shown + PAGE)) list.append(el("button", { type: "button", onclick: (e) => choose(t, e.currentTarget) }, ...summary(t)));
      shown += PAGE;
      if (shown < found.length) {
        const next = el("button", { type: "button", class: "more", onclick: () => { next.remove(); more(); } }, `… ${found.length - shown} more`);
        list.append(next);
      }
    };
    more();
    if (found.length) choose(found.find((t) => !t.refused && t.attempts.length) ?? found[0]);
    else detail.replaceChildren(el("p", {}, "No sampled proposal fits these filters."));
  }

  function choose(task, row) {
    for (const other of list.querySelectorAll("[aria-current]")) other.removeAttribute("aria-current");
    row?.setAttribute("aria-current", "true");
    detail.replaceChildren(...describe(run, task, byId, (t) => choose(t)));
    if (row && window.innerWidth <= 760) detail.scrollIntoView({ behavior: "smooth" });
  }

  for (const field of Object.values(f)) field.addEventListener("input", fill);
  fill();
  const filters = el("div", { class: "filters" }, f.kind, f.state, el("label", {}, "iterations ", f.from, " to ", f.to), el("label", {}, "solve rate ", f.low, " to ", f.high), f.text);
  return el("div", {}, filters, count, el("div", { class: "viewer" }, list, detail));
}

function describe(run, t, byId, go) {
  const parts = [
    el("h3", {}, `${t.kind}, iteration ${t.iteration}, proposal ${t.index ?? "–"}`),
    el("p", { class: t.refused ? "bad" : "good" }, t.refused ? `refused: ${visible(t.refused)}` : t.task_id === null ? "valid, but there already" : `accepted as task ${t.task_id}`),
    t.detail ? code(t.detail) : null,
    el("p", { class: "note" }, `solve rate ${rate(t)} · reward ${signed(t.reward)} · advantage ${signed(t.advantage)} · ${t.tokens ?? "–"} tokens · ended by ${t.finish ?? "–"}`),
  ];
  if (t.task) parts.push(...taskParts(t.task));
  if (t.attempts.length) parts.push(el("h3", {}, `${t.attempts.length} attempts that measured how hard it is`), ...t.attempts.map(attempt));
  if (t.solved.length) parts.push(el("h3", {}, "Solved as a task"), ...t.solved.map(attempt));
  parts.push(el("h3", {}, "What the proposer wrote"), code(t.completion));
  if (t.references.length) parts.push(el("h3", {}, "Where it came from"), tree(run, t.references, byId, go, 0, new Set()));
  const children = t.task_id === null ? [] : run.tasks.filter((other) => other.references.includes(t.task_id));
  if (children.length) parts.push(el("h3", {}, "Sampled proposals that saw it"), el("ul", { class: "tree" }, ...children.slice(0, 20).map((c) => el("li", {}, el("button", { type: "button", onclick: () => go(c) }, ...summary(c))))));
  return parts.filter(Boolean);
}

function taskParts(task) {
  const parts = [el("h3", {}, "Program"), highlighted(task.program)];
  if (task.inputs) {
    parts.push(el("h3", {}, "Message"), code(task.message ?? ""), el("h3", {}, "Cases"));
    parts.push(el("div", { class: "scroll" }, el("table", {}, el("tr", {}, el("th", { class: "config" }, "input"), el("th", { class: "config" }, "output"), el("th", {}, "solver sees it")),
      ...task.inputs.map((input, i) => el("tr", {}, el("td", { class: "config" }, visible(input)), el("td", { class: "config" }, visible(task.outputs[i] ?? "")), el("td", {}, i < task.shown ? "yes" : "no"))))));
  } else parts.push(el("h3", {}, "Input"), code(task.input ?? ""), el("h3", {}, "Output"), code(task.output ?? ""));
  return parts;
}

function attempt(a) {
  const head = [el("span", { class: a.correct ? "good" : "bad" }, a.correct ? "right" : visible(a.reason || "wrong")), el("small", {}, ` reward ${signed(a.reward)} · advantage ${signed(a.advantage)} · ${a.tokens ?? "–"} tokens${a.iteration === undefined ? "" : ` · iteration ${a.iteration}`}`)];
  return el("details", {}, el("summary", {}, ...head), a.answer === null ? null : el("div", {}, "answer", highlighted(a.answer)), el("div", {}, "completion", code(a.completion)));
}

// A task may be its own ancestor's neighbour many times over: each is opened once.
function tree(run, references, byId, go, depth, shown) {
  return el("ul", { class: "tree" }, ...references.map((id) => {
    const stub = run.ancestors[id], full = byId.get(id);
    if (!stub) return el("li", {}, `task ${id} `, el("small", {}, "not kept in this report"));
    const origin = stub.seed ? "seed" : `iteration ${stub.iteration}, solve rate ${rate(stub)}`;
    const label = [`task ${id} `, el("small", {}, `${stub.kind}, ${origin}`)];
    const head = full ? el("button", { type: "button", onclick: () => go(full) }, ...label) : el("span", {}, ...label);
    const item = el("li", {}, head, el("details", {}, el("summary", {}, "program"), highlighted(stub.program)));
    if (!shown.has(id) && depth < 3 && stub.references.length) {
      shown.add(id);
      item.append(el("details", {}, el("summary", {}, `from ${stub.references.length} others`), tree(run, stub.references, byId, go, depth + 1, shown)));
    }
    return item;
  }));
}
