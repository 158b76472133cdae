# What the scripts beside this file share: their flags, and `go`, which runs a command or, with --dry_run, prints it.
# Left out on purpose: anything gcloud already asks or remembers (login, default project).
set -euo pipefail

NAME=azr ZONE="" SLICE="" PROJECT="" SPOT=no DRY_RUN=no WORKER=0 WORKDIR="" SHARE="" STORAGE="" KEEP=no REST=()
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

fail() { echo "error: $*" >&2; exit 2; }

parse() {
  while (($#)); do
    case "$1" in
      --name=*) NAME="${1#*=}" ;;
      --zone=*) ZONE="${1#*=}" ;;
      --slice=*) SLICE="${1#*=}" ;;
      --project=*) PROJECT="${1#*=}" ;;
      --worker=*) WORKER="${1#*=}" ;;
      --workdir=*) WORKDIR="${1#*=}"; REST+=("$1") ;;
      --share=*) SHARE="${1#*=}" ;;
      --storage=*) STORAGE="${1#*=}" ;;
      --spot) SPOT=yes ;;
      --keep) KEEP=yes ;;
      --dry_run) DRY_RUN=yes ;;
      --help) usage; exit 0 ;;
      --config*) REST+=("$1") ;;
      *) fail "$1: unknown. $(usage)" ;;
    esac
    shift
  done
}

# The comment that opens a script is its help.
usage() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"; }

need() { [[ -n "${!1}" ]] || fail "--${1,,}= is missing. $(usage)"; }

# The workdir is in a bucket, by its address, or a folder that the workers share. A bucket that is mounted is none: a
# checkpoint is finished by renaming, and files grow, and of neither a bucket knows anything.
need_workdir() {
  need WORKDIR
  accelerator
  [[ $WORKDIR == /* || $WORKDIR == gs://?* ]] && return
  fail "--workdir=$WORKDIR: should be gs://bucket/folder, or a folder that all workers share, as /mnt/shared/qwen7b"
}

# What of this shell's environment the run gets: names of those that are set.
confided() {
  local name
  for name in HF_TOKEN HF_HOME WANDB_API_KEY; do [[ -z "${!name:-}" ]] || echo "$name"; done
}

# The same as lines of a file that only its owner may read, each by a format of printf; it goes when the script ends.
confided_file() {
  local name
  environment="$(mktemp)"  # of mode 600
  trap 'rm -f "$environment"' EXIT
  for name in $(confided); do printf "$1" "$name" "${!name}"; done > "$environment"
}

go() {
  if [[ $DRY_RUN == yes ]]; then printf '%q ' "$@"; echo; else "$@"; fi
}

where() { echo "--zone=$ZONE" ${PROJECT:+"--project=$PROJECT"}; }

# The slice as the dry run names it (v5e:4x4) -> Google Cloud's accelerator type and the image of its VMs.
accelerator() {
  local chip="${SLICE%%:*}" grid="${SLICE#*:}" chips=1 n
  [[ $SLICE =~ ^v(5e|5p|6e):[0-9]+x[0-9]+(x[0-9]+)?$ ]] || fail "--slice=$SLICE: should be as v5e:4x4, v5p:2x2x1, v6e:2x4"
  for n in ${grid//x/ }; do chips=$((chips * n)); done
  case "$chip" in
    v5e) TYPE="v5litepod-$chips" IMAGE=v2-alpha-tpuv5-lite ;;
    v5p) TYPE="v5p-$((chips * 2))" IMAGE=v2-alpha-tpuv5 ;;
    v6e) TYPE="v6e-$chips" IMAGE=v2-alpha-tpuv6e ;;
  esac
  WORKERS=1  # up to eight chips of v5e and v6e are on one machine, four of v5p; machines of larger slices have four
  [[ $chip != v5p && $chips -le 8 ]] || WORKERS=$(((chips + 3) / 4))
}

# A command on one worker, or on all of them at once.
on() {
  go gcloud compute tpus tpu-vm ssh "$NAME" $(where) --worker="$1" --command="$2"
}

state() {
  gcloud compute tpus queued-resources describe "$NAME" $(where) --format='value(state.state)' 2>/dev/null || echo ABSENT
}
