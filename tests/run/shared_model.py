"""`shared_model.py <processes> <process> <port> <model.name> <out>`: one of several processes that load one model.

Two devices each. Writes the shards it holds to <out>/<process>.npz and prints what it read of files on a disk; ends as
a run would: 2 and one line where the model is wrong.
"""

import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np

from azr_jax.config import flags as configs
from azr_jax.config.schema import ConfigError
from azr_jax.main import code_of, fail
from azr_jax.models import tensors
from azr_jax.models.tensors import LocalFile
from azr_jax.parallel.hosts import joined
from azr_jax.parallel.mesh import make_mesh
from azr_jax.run.build import load
from azr_jax.run.find_model import find_model
from azr_jax.storage import bucket, ranges

tensors.READ_BYTES, ranges.PART = 2**14, 2**12  # so that the small model comes in many pieces
if "PATIENCE_S" in os.environ:
    bucket.Bucket.__init__.__kwdefaults__["patience_s"] = float(os.environ["PATIENCE_S"])

count, process, (port, name, out) = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:6]
read = [0]
whole = LocalFile.read


def counted(file: LocalFile, start: int, end: int) -> bytes:
    data = whole(file, start, end)
    read[0] += len(data)
    return data


LocalFile.read = counted
config, problems = configs.load("configs/tiny.py", {"model.name": name})
assert not problems, problems
try:
    with joined(
        f"localhost:{port}", count, process, join_timeout_s=60, dead_after_s=20, alike=ConfigError, code_of=code_of
    ) as hosts:
        assert jax.process_count() == count  # as build() asks: the first computation of one alone would wait
        model = find_model(config, hosts)
        _, params = load(hosts, model, make_mesh(-1, 2), name)
        shards = {
            f"{jax.tree_util.keystr(path)}@{[(part.start, part.stop) for part in shard.index]}": np.asarray(shard.data)
            for path, leaf in jax.tree_util.tree_leaves_with_path(params)
            for shard in leaf.addressable_shards
        }
        np.savez(f"{out}/{process}.npz", **shards)
        print(f"readers {model.readers}; {read[0]} bytes read of files; tokenizer {len(model.tokenizer)}")
        hosts.gather()
except ConfigError as error:
    fail(error.problems)
