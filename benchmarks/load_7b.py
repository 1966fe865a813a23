"""The host memory that a 7B checkpoint needs: loaded onto 8 CPU devices, converted to orbax, and back.

python -m benchmarks.load_7b                  a sparse checkpoint of zeros: no disk, 14 GiB of memory
python -m benchmarks.load_7b --random         real bytes: 40 GiB of disk
python -m benchmarks.load_7b --layers=4       a seventh of it

Every stage is a process of its own. The bars: less than 1 GiB beyond the arrays to load, less than 2 GiB to convert.
"""

import dataclasses
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from longjax import sharding
from longjax.checkpoints import config_to_hf, hf_writer, orbax_params, param_mapping, pretrained, safetensors
from longjax.checkpoints.pretrained import ExportOptions, ModelTensors
from longjax.config import LLAMA2_7B, ModelConfig
from longjax.progress import no_progress

LAYERS = flags.DEFINE_integer("layers", 32, "Of LLaMA-2 7B.", 1)
RANDOM = flags.DEFINE_bool("random", False, "Real bytes, which do not compress, in place of zeros that need no disk.")
DIR = flags.DEFINE_string("dir", None, "Where the checkpoints are written; none: a temporary directory, removed.")
OUT = flags.DEFINE_string("out", None, "JSON file with the results.")
STAGE = flags.DEFINE_string("stage", None, "For the processes that this one starts.")
GIB = 2**30
BARS = {"load": 1.0, "to orbax": 2.0, "to hf": 2.0}  # GiB


def make(folder: pathlib.Path, cfg: ModelConfig, random: bool) -> None:
    """Write a Hugging Face directory in bfloat16, three files and an index."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {name: param_mapping.hf_shape(members, cfg) for name, members in param_mapping.tensor_members(cfg).items()}
    names, where, dtype = list(shapes), {}, np.dtype(jnp.bfloat16)
    groups = [list(group) for group in np.array_split(np.asarray(names), 3)]
    for file_name, group in zip(hf_writer.file_names(3), groups, strict=True):
        about = {name: (dtype, shapes[name]) for name in group}
        count = sum(int(np.prod(shape)) for _, shape in about.values()) * dtype.itemsize
        with (folder / file_name).open("wb") as file:
            safetensors.write_header(file, about)
            fill(file, count) if random else file.truncate(file.tell() + count)
        where |= dict.fromkeys(group, file_name)
    (folder / safetensors.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / "config.json").write_text(json.dumps(config_to_hf.llama_config(cfg) | {"vocab_size": cfg.vocab}))


def fill(file: BinaryIO, count: int) -> None:
    """Weights of random bits with exponents as those of a model have."""
    block = np.random.default_rng(0).normal(0, 0.02, 2**24).astype(jnp.bfloat16).view(np.uint8)
    for start in range(0, count, block.size):
        file.write(block[: count - start].data)


def to_arrays(folder: pathlib.Path) -> int:
    """Load the directory onto 8 devices. Returns the bytes of the arrays."""
    mesh = sharding.make_mesh(fsdp=4, model=2)
    checkpoint = pretrained.open_checkpoint(folder / "hf")
    params = jax.block_until_ready(pretrained.load(checkpoint.tensors, checkpoint.cfg, mesh, jnp.bfloat16))
    return sum(x.nbytes for x in params.values())


def to_orbax(folder: pathlib.Path) -> int:
    """Convert the directory to orbax."""
    checkpoint = pretrained.open_checkpoint(folder / "hf")
    tensors = ModelTensors(checkpoint.tensors, checkpoint.cfg)
    orbax_params.write_orbax(folder / "orbax", tensors, checkpoint.cfg, checkpoint.config, {}, no_progress)
    return 0


def to_hf(folder: pathlib.Path) -> int:
    """Convert the orbax checkpoint back."""
    checkpoint = pretrained.open_checkpoint(folder / "orbax")
    pretrained.write_checkpoint(
        folder / "back", checkpoint.tensors, checkpoint.cfg, checkpoint.method, checkpoint, {}, ExportOptions("source")
    )
    return 0


STAGES = {"load": to_arrays, "to orbax": to_orbax, "to hf": to_hf}


def peak() -> int:
    """Return the peak memory of this process in bytes."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def stage(name: str, folder: pathlib.Path) -> dict[str, Any]:
    """Run one stage in this process."""
    jax.config.update("jax_num_cpu_devices", 8)
    jax.devices()
    before, start = peak(), time.time()
    arrays = STAGES[name](folder)
    return {
        "stage": name, "seconds": round(time.time() - start, 1), "arrays_gib": round(arrays / GIB, 2),
        "peak_gib": round(peak() / GIB, 2), "beyond_gib": round((peak() - arrays) / GIB, 2),
        "python_and_jax_gib": round(before / GIB, 2), "bar_gib": BARS[name],
    }  # fmt: skip


def machine() -> str:
    """Describe this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    return f"{os.cpu_count()} x {platform.machine()}, {memory:.0f} GiB, jax {jax.__version__}"


def run(folder: pathlib.Path) -> dict[str, Any]:
    """Run all stages, each in a process of its own."""
    cfg = dataclasses.replace(LLAMA2_7B, layers=LAYERS.value)
    make(folder / "hf", cfg, RANDOM.value)
    size = sum(path.stat().st_size for path in (folder / "hf").iterdir())
    print(f"{size / GIB:.2f} GiB, {'random' if RANDOM.value else 'zeros'}; {machine()}")
    rows = []
    for name in STAGES:
        command = [sys.executable, "-m", "benchmarks.load_7b", f"--stage={name}", f"--dir={folder}"]
        output = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout
        row = json.loads(output.splitlines()[-1])
        verdict = "ok" if row["beyond_gib"] < row["bar_gib"] else "ABOVE THE BAR"
        print(
            f"{name:10} {row['seconds']:7.1f} s   arrays {row['arrays_gib']:6.2f} GiB   peak {row['peak_gib']:6.2f} GiB"
            f"   beyond the arrays {row['beyond_gib']:5.2f} GiB < {row['bar_gib']:.0f}: {verdict}", flush=True,
        )  # fmt: skip
        rows.append(row)
    return {"machine": machine(), "layers": LAYERS.value, "random": RANDOM.value, "bytes": size, "stages": rows}


def main(argv: list[str]) -> None:
    """Run all stages, or the one of --stage."""
    if STAGE.value:
        print(json.dumps(stage(STAGE.value, pathlib.Path(DIR.value or "."))))
        return
    with tempfile.TemporaryDirectory(dir=DIR.value) as folder:
        result = run(pathlib.Path(folder))
    if OUT.value:
        pathlib.Path(OUT.value).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
