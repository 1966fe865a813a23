"""Two processes of four devices load and export as one of eight, and each reads what it needs."""

import os
import pathlib
import socket
import subprocess
import sys

from longjax.checkpoints import pretrained
from longjax.checkpoints.pretrained import ModelTensors

HERE = pathlib.Path(__file__).parent
LLAMA = HERE / "golden" / "convert" / "llama_bf16_sharded" / "hf"
WORKER = """
import sys, jax
from longjax import sharding
from longjax.checkpoints import pretrained
from longjax.checkpoints.pretrained import ExportOptions

port, process, folder, out = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", 2, int(process))
given, read = pretrained.open_checkpoint(folder), {}

class Counted:
    shapes = given.tensors.shapes

    def read(self, name, rows=slice(None)):
        x = given.tensors.read(name, rows)
        read[name] = len(x)
        return x

params = pretrained.load(Counted(), given.cfg, sharding.make_mesh(fsdp=2, seq=2, model=2))
pretrained.export(out, params, given.cfg, given.method, given, ExportOptions("source"))
for kind in ("o_proj", "q_proj"):
    name = f"model.layers.0.self_attn.{kind}.weight"
    print(kind, read[name] / given.tensors.shapes()[name][0])
"""


def test_two_hosts_load_and_export_as_one(tmp_path):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    env = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4", "PYTHONPATH": str(HERE.parent)}
    arguments = [sys.executable, "-c", WORKER, str(port)]
    processes = [
        subprocess.Popen([*arguments, str(i), str(LLAMA), str(tmp_path)], env=env, stdout=-1, stderr=-1)
        for i in range(2)
    ]  # fmt: skip
    for process in processes:
        said, failed = process.communicate(timeout=300)
        assert process.returncode == 0, failed.decode()[-3000:]
        # rows of o are D, split over fsdp, and so over the hosts; those of q are heads, which each host has all of
        assert said.decode().split()[-4:] == ["o_proj", "0.5", "q_proj", "1.0"]
    given, again = pretrained.open_checkpoint(LLAMA), pretrained.open_checkpoint(tmp_path)
    want = ModelTensors(given.tensors, given.cfg)
    assert again.tensors.shapes() == want.shapes()
    for name in want.shapes():
        assert again.tensors.read(name).tobytes() == want.read(name).tobytes(), name
