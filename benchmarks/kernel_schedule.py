"""How long a core works on a block of the decode kernel's context, and how long the block's copy takes, cycle by cycle.

    python benchmarks/kernel_schedule.py [--slices=v5e:4x4,v6e:2x4,v5p:2x2x1] [--heads=128:28:4] [--caches=same,int8]

The compiler's estimates of a decode step leave kernels out. Here each kernel is compiled by itself, for the heads that
a chip of the slice's replica has, with libtpu writing down its final schedule: instruction words, one a cycle where
nothing is waited for. Counted are those of the loop over blocks, without the loops in it, which copy the pages of a
last block that is not full. That is more than a block in the middle takes, by what lays a new token over its page.
Beside it the cycles in which the block's bytes come at the chip's published rate. A core works on one block while the
next one comes: whichever takes longer is what a block costs. The flags that ask for the schedule are libtpu's own and
not documented; without them there is nothing to count.

Needs `pip install "jax[tpu]"`. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.dryrun import topology as slices

# Of a core: v5e and v5p multiply 128 x 128 numbers a cycle in each of four units, v6e 256 x 256.
CLOCK = {"v5e": 1.5e9, "v5p": 1.75e9, "v6e": 1.75e9}
CORES = {"v5e": 1, "v5p": 2, "v6e": 1}
REPLICA = {"v5e:4x4": 4, "v6e:2x4": 2, "v5p:2x2x1": 1}  # chips that qwen7b's sampler has of these slices
SLOTS, LONGEST, PAGES = 64, 14240, 2000
PAGE = {"same": 64, "int8": 128}  # tokens


def compile_one(name: str, cache: str, head_dim: int, heads: int, kv_heads: int) -> dict[str, float]:
    """In a process of its own, which libtpu was told where to write. Tokens and bytes of a block."""
    slices.prepare()
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from azr_jax.parallel.mesh import make_mesh
    from azr_jax.rollout import decode_kernel, paged_fused, paged_steps
    from azr_jax.rollout.attention import Backend, decode_slots

    backend: Backend = paged_steps if cache == "int8" else paged_fused
    dtype = jnp.int8 if cache == "int8" else jnp.bfloat16
    one = make_mesh(1, 1, slices.devices(slices.find(name))[:1])

    def of(dtype, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(one, PartitionSpec()))

    blocks, call = [], decode_kernel._call
    decode_kernel._call = lambda *args: (blocks.append(args[5]), call(*args))[1]  # how many pages it was given
    pools = jax.eval_shape(lambda: backend.empty_cache(2, PAGES, PAGE[cache], kv_heads, head_dim, dtype))
    new = (of(jnp.bfloat16, SLOTS, 1, count, head_dim) for count in (heads, kv_heads, kv_heads))
    where = of(jnp.int32), of(jnp.int32, SLOTS, -(-LONGEST // PAGE[cache])), of(jnp.int32, SLOTS), of(jnp.bool_, SLOTS)
    with jax.set_mesh(one):
        step = jax.jit(lambda *args: decode_slots(backend, *args), donate_argnums=3)
        step.lower(*new, tuple(of(pool.dtype, *pool.shape) for pool in pools), *where).compile()
    a_page = sum(pool.dtype.itemsize * pool.size // (2 * PAGES) for pool in pools)
    return {"tokens": blocks[0] * PAGE[cache], "bytes": blocks[0] * a_page}


def words_of_a_block(folder: Path) -> int:
    """By the marks of the schedule, ">" for each loop that a word stands in: of the loop that multiplies matrices."""
    (text,) = [file for file in folder.glob("*paged_decode_kernel*final_bundles.txt") if "analysis" not in file.name]
    words, multiplying = Counter[int](), Counter[int]()
    for line in text.read_text().splitlines():
        if match := re.match(r"\s*(?:0x)?[0-9a-f]+\s+[A-Z ]*:\s*(>*) ?\{", line):
            depth = len(match.group(1))
            words[depth] += 1
            multiplying[depth] += "vmatmul" in line
    return words[multiplying.most_common(1)[0][0]]


def measure(name: str, cache: str, head_dim: int, heads: int, kv_heads: int) -> dict[str, object]:
    kind, tensor = name.partition(":")[0], REPLICA[name]
    with tempfile.TemporaryDirectory() as folder:
        flags = f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
        sizes = [str(head_dim), str(heads // tensor), str(max(1, kv_heads // tensor))]
        done = subprocess.run(
            [sys.executable, __file__, "--one", name, cache, *sizes],
            env=os.environ | {"LIBTPU_INIT_ARGS": flags}, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            sys.exit(done.stderr[-2000:])
        block, words = json.loads(done.stdout.splitlines()[-1]), words_of_a_block(Path(folder))
    rate = slices.find(name).chip.memory_bytes_s / CORES[kind]
    cycles = block["bytes"] / rate * CLOCK[kind]
    found = {
        "slice": name, "cache": cache, "heads": "/".join(sizes), "tokens": block["tokens"],
        "words": words, "copy_cycles": round(cycles),
        "cycles_of_1024_tokens": round(1024 / block["tokens"] * max(words, cycles)),
    }  # fmt: skip
    print("  ".join(f"{name} {value}" for name, value in found.items()), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", default="v5e:4x4,v6e:2x4,v5p:2x2x1")
    parser.add_argument("--caches", default="same,int8")
    parser.add_argument("--heads", default="128:28:4", help="numbers of a head, query heads, key/value heads")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, cache, *sizes = options.one
        print(json.dumps(compile_one(name, cache, *map(int, sizes))))
        return
    sizes = [int(size) for size in options.heads.split(":")]
    of = [(name, cache) for name in options.slices.split(",") for cache in options.caches.split(",")]
    print(json.dumps([measure(*one, *sizes) for one in of]))


if __name__ == "__main__":
    main()
