// Only in a page that is served while the run goes on: asks whether the run has written, and shows the new page where
// the reader is, with what the reader chose. While a task is being read, or "follow" is off, it stays as it is.

const EVERY_MS = 5_000, KEPT = "azr_jax live";
const follow = document.getElementById("follow"), state = document.getElementById("live");
let version = null;

function keep() {
  sessionStorage.setItem(KEPT, JSON.stringify({
    run: choice.run.value, smooth: choice.smooth.value, at: window.scrollY, dark: document.documentElement.classList.contains("dark"),
  }));
}

function restore() {
  const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
  if (!kept) return;
  sessionStorage.removeItem(KEPT);
  document.documentElement.classList.toggle("dark", kept.dark);
  choice.smooth.value = kept.smooth;
  render();
  window.scrollTo(0, kept.at);
}

async function ask() {
  try {
    const answer = await fetch("version");
    const said = await answer.text();
    if (!answer.ok) { state.textContent = said; return; }
    if (version !== null && said !== version && follow.checked) { keep(); location.reload(); return; }
    version ??= said;
    state.textContent = said === version ? "live" : "the run has gone on";
  } catch {
    state.textContent = "no longer served: this is the last page";
  }
}

restore();
ask();
setInterval(ask, EVERY_MS);
