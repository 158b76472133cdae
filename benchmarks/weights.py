"""Loading and exporting a folder: GB/s beside plain safetensors, and the host memory that loading adds.

    python benchmarks/weights.py                    # a synthetic 2 GB model on eight virtual devices
    python benchmarks/weights.py --gigabytes=0.5

Every measurement runs in a process of its own (peak memory only ever rises). Loading is compared with reading every
tensor by `safetensors`; "extra" is the rise of peak memory over the bytes the devices hold, in percent of them. On
virtual devices the weights themselves lie in the host's memory; on an accelerator only the extra does. Files are read
from the page cache: this is the code's speed, not the disk's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.models import hf
from azr_jax.models.spec import ModelSpec, config_from_spec
from azr_jax.models.tensors import TYPES, Planned, write_tensors
from azr_jax.parallel.mesh import make_mesh

WIDTH, MLP, VOCAB = 2048, 8192, 32_000
MESHES = {"fsdp8": (8, 1), "fsdp4_tensor2": (4, 2)}


def peak_bytes() -> int:
    """The most memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make_folder(folder: Path, gigabytes: float) -> None:
    """A float32 model of about this size, written tensor by tensor."""
    layer = 4 * (3 * WIDTH * MLP + WIDTH * WIDTH * 5 // 2)
    depth = max(1, round((gigabytes * 1e9 - 4 * VOCAB * WIDTH) / layer))
    spec = ModelSpec("llama", VOCAB, WIDTH, depth, heads=16, kv_heads=4, head_dim=128, mlp=MLP, tied=True)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_from_spec(spec)))
    plan = [
        Planned(name, TYPES["F32"], hf.their_shape(weight))
        for weight in spec.weights()
        for name in hf.names(weight, spec.depth)
    ]
    rng = np.random.default_rng(0)
    write_tensors(folder, plan, (rng.standard_normal(tensor.shape, np.float32) for tensor in plan))


def measure(what: str, folder: Path, out: Path) -> dict[str, float]:
    """One measurement, in this process."""
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if what == "safetensors":
        start = time.perf_counter()
        for file in folder.glob("*.safetensors"):
            for array in load_file(file).values():
                np.ascontiguousarray(array)
        return {"gb_per_s": size / 1e9 / (time.perf_counter() - start)}
    mesh = make_mesh(*MESHES[what])
    jax.block_until_ready(jax.device_put(0))
    before, start = peak_bytes(), time.perf_counter()
    model = hf.load(folder, mesh=mesh)
    jax.block_until_ready(jax.tree.leaves(model))
    loading, rise = time.perf_counter() - start, peak_bytes() - before
    held = sum(shard.data.nbytes for leaf in jax.tree.leaves(model) for shard in leaf.addressable_shards)
    start = time.perf_counter()
    hf.save(model, out, source=folder, overwrite=True)
    return {
        "gb_per_s": size / 1e9 / loading,
        "export_gb_per_s": size / 1e9 / (time.perf_counter() - start),
        "held_gb": held / 1e9,
        "extra_percent": 100 * (rise / held - 1),
    }


def main() -> None:
    """A table, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        what, folder, out = args.measure
        print(json.dumps(measure(what, Path(folder), Path(out))))
        return
    results = {}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "model"
        make_folder(folder, args.gigabytes)
        for what in ("safetensors", *MESHES):
            command = [sys.executable, __file__, "--measure", what, str(folder), str(Path(work) / "out")]
            results[what] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(f"{what:16}" + "".join(f"{name:>18} {value:6.2f}" for name, value in results[what].items()))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
