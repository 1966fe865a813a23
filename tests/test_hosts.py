"""Two processes of four devices each, on loopback, are one of eight."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np

from longjax.evals.results import read_rows

HERE = pathlib.Path(__file__).parent


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def start(folder, devices, *flags):
    command = [sys.executable, str(HERE / "tiny_preset.py"), "yarn", "--preset=tiny", f"--run_dir={folder}"]
    mesh = ["--mesh_fsdp=2", "--mesh_seq=2", "--mesh_model=2"]
    env = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(HERE.parent)}
    return subprocess.Popen([*command, *mesh, *flags], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finished(processes):
    for process in processes:
        said, _ = process.communicate(timeout=400)
        assert process.returncode == 0, said.decode()[-3000:]


def steps(folder):
    lines = (folder / "methods" / "yarn" / "metrics.jsonl").read_text().splitlines()
    return [[json.loads(line)[name] for name in ("step", "loss", "grad_norm")] for line in lines]


def results(folder):
    return [[row["length"], row["value"]] for row in read_rows(folder)]


def test_two_hosts_train_and_evaluate_as_one(tmp_path):
    finished([start(tmp_path / "one", 8)])
    port = free_port()
    hosts = [f"--coordinator=localhost:{port}", "--processes=2"]
    finished([start(tmp_path / "two", 4, *hosts, f"--process={i}", "--save_every=2") for i in range(2)])
    for numbers in (steps, results):
        one, two = (np.array(numbers(tmp_path / run), float) for run in ("one", "two"))
        assert len(one) == len(two) > 1
        np.testing.assert_allclose(two, one, rtol=2e-5)  # sums over hosts are in another order
