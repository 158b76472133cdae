"""`two_processes.py <process> <port> <folder> <out>`: one of two processes with two devices each.

Loads a folder over all four devices and saves it; exit code 3 when saving is refused.
"""

import os
import sys

import jax

from azr_jax.models import hf
from azr_jax.parallel.mesh import make_mesh

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"  # read when the first device is asked for
jax.config.update("jax_platforms", "cpu")
process, port, folder, out = int(sys.argv[1]), *sys.argv[2:5]
jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=process)

model = hf.load(folder, mesh=make_mesh(2, 2))
weight = model.embed[...]
print(f"process {process}: {jax.device_count()} devices, here {len(weight.addressable_shards)} of the weight's shards")
try:
    hf.save(model, out, source=folder)
except OSError as error:
    print(f"process {process} refused: {error}")
    sys.exit(3)
