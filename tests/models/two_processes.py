"""One of two processes with two devices each: loads a folder over all four, saves it, and tells what went wrong.

python two_processes.py <process> <port> <folder> <out>
"""

import os
import sys

process, port, folder, out = int(sys.argv[1]), *sys.argv[2:5]
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax

jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=process)

from azr_jax.models import hf
from azr_jax.parallel.mesh import make_mesh

model = hf.load(folder, mesh=make_mesh(2, 2))
weight = model.embed[...]
print(f"process {process}: {jax.device_count()} devices, here {len(weight.addressable_shards)} of the weight's shards")
try:
    hf.save(model, out, source=folder)
except OSError as error:
    print(f"process {process} refused: {error}")
    sys.exit(3)
