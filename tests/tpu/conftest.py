import os
import signal
import stat
from contextlib import suppress
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent.parent / "tpu"
WORKERS = 2

# Writes down what it is called with, and answers `state` by a file. What starts, asks and ends a run on workers is run,
# in a folder for each; what is sent lands there, with its mode, as by scp.
GCLOUD = """#!/bin/bash
echo "gcloud $*" >> {here}/calls
[ -t 0 ] || timeout 0.1 cat >> {here}/stdin
if [[ "$*" == *" scp "*:azr.env* ]]; then
  stat -c %a "$5" >> {here}/modes
  for folder in {here}/workers/*; do install -m "$(stat -c %a "$5")" "$5" "$folder/azr.env"; done
fi
[[ "$*" == *describe* ]] && cat {here}/state
[[ "$*" == *"queued-resources create"* ]] && sed -i s/SUSPENDED/ACTIVE/ {here}/state
for word; do
  if [[ $word == --command=*run.pid* ]]; then
    for folder in {here}/workers/*; do (cd "$folder" && bash -c "${{word#--command=}}"); done
  fi
done
exit 0
"""

KUBECTL = """#!/bin/bash
echo "kubectl $*" >> {here}/calls
for word; do
  if [[ $word == --from-env-file=* ]]; then
    stat -c %a "${{word#*=}}" >> {here}/modes
    cat "${{word#*=}}" > {here}/secret
  fi
done
[[ $1 != apply ]] || cat >> {here}/applied
"""

# In place of a worker's Python: the run ends at once with the first code of a file, or waits for SIGTERM.
PYTHON = """#!/bin/bash
[[ "$*" == *parallel.flags* ]] && exec echo "LIBTPU_INIT_ARGS='--of=$3'"
cd "{folder}"
printf '%s\n' "$LIBTPU_INIT_ARGS" "$@" > started
printf '%s\n' "$HF_TOKEN" "$HF_HOME" "$WANDB_API_KEY" > environment
cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' > ps
read -r code < codes && sed -i 1d codes
[[ $code == wait ]] || exit "$code"
trap 'exit 0' TERM
touch waits
while :; do /bin/sleep 0.1; done
"""


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """Stands in for gcloud, docker and xpk; the file of their calls."""
    (tmp_path / "state").write_text("ACTIVE\n")
    programs = {name: f'#!/bin/bash\necho "{name} $*" >> {tmp_path}/calls\n' for name in ("docker", "xpk")}
    programs |= {"kubectl": KUBECTL.format(here=tmp_path)}
    programs |= {"gcloud": GCLOUD.format(here=tmp_path), "sleep": "#!/bin/bash\nexec /bin/sleep 0.3\n"}
    for name, text in programs.items():
        _program(tmp_path / "bin" / name, text)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "calls").touch()
    return tmp_path / "calls"


@pytest.fixture
def workers(cloud):
    """Folders of two workers, with the exit codes that their runs will have."""

    def make(*codes: str) -> list[Path]:
        folders = []
        for number, ends in enumerate(codes):
            folder = cloud.parent / "workers" / str(number) / "azr"
            _program(folder / ".venv" / "bin" / "python", PYTHON.format(folder=folder))
            (folder / "codes").write_text("".join(f"{code}\n" for code in ends.split()))
            folders.append(folder)
        return folders

    yield make
    for pid in (cloud.parent / "workers").glob("*/azr/run.pid"):
        with suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGKILL)


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
