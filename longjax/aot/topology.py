"""Chips that are not at hand: their rates, and descriptions of machines made of them that jax compiles for."""

import dataclasses
import importlib.util
import math
import os
from typing import Any, Literal, NamedTuple

import jax
from jax.experimental import topologies

from longjax import sharding
from longjax.sharding.xla_flags import TPU_OVERLAP
from longjax.training.flops import PEAKS

GIB = 2**30
MESH_AXES = ("data", "fsdp", "seq", "model")
LIBTPU = {"0.10": "0.0.42", "0.11": "0.0.48"}  # what each jax was built with; newer ones cannot compile all programs
NVLINK = 8  # GPUs of one host


class Chip(NamedTuple):
    """One device.

    Attributes:
      platform: jax's name of it.
      kind: jax's device_kind.
      hbm: bytes that a program may use: on a TPU what its compiler reports, on a GPU the share of 0.94 that jax takes.
      hbm_rate: bytes a second of the memory.
      link: bytes a second of one link, one way.
      cycle: floating-point operations of a cycle, over all cores; 0: not needed.
      kernel: share of the peak that attention kernels reach, forward and backward, in the products that they do.

    """

    platform: Literal["tpu", "cuda"]
    kind: str
    hbm: float
    hbm_rate: float
    link: float
    cycle: int
    kernel: tuple[float, float]

    @property
    def flops(self) -> float:
        """Floating-point operations a second, at the peak."""
        return PEAKS[self.kind]

    @property
    def clock(self) -> float:
        """Cycles a second."""
        return self.flops / self.cycle


# TPUs: memory and links from cloud.google.com/tpu/docs (v5e, v5p, v6e) and jax-ml.github.io/scaling-book; cycles from
# the number of matrix units; kernels: splash attention's static bundle counts for tiles of 1024 x 1024 of width 128
# (forward 4735, 4840 and 3327 cycles where the matrix units need 4096, 4096 and 1024; backward 10580, 10580 and 5943
# where they need 10240, 10240 and 2560; in two kernels 14826 and 8494 where they need 14336 and 3584). GPUs: NVIDIA's
# data sheets; kernels: cuDNN, measured on an H200.
CHIPS = {
    "v5e": Chip("tpu", "TPU v5e", 15.75 * GIB, 8.1e11, 4.5e10, 131_072, (0.865, 0.967)),
    "v5p": Chip("tpu", "TPU v5", 95.74 * GIB, 2.765e12, 9.0e10, 262_144, (0.846, 0.967)),
    "v6e": Chip("tpu", "TPU v6e", 31.25 * GIB, 1.64e12, 9.0e10, 524_288, (0.308, 0.43)),
    "h100": Chip("cuda", "NVIDIA H100", 0.94 * 79.1 * GIB, 3.35e12, 4.5e11, 0, (0.63, 0.55)),
    "h200": Chip("cuda", "NVIDIA H200", 0.94 * 139.8 * GIB, 4.8e12, 4.5e11, 0, (0.63, 0.55)),
}

# What XLA needs to know of a GPU to compile for it. H100 and H200 are the same processor.
HOPPER = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {rate:.0f}
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: {memory:.0f}
  shared_memory_per_block_optin: 232448
  cuda_compute_capability {{ major: 9 minor: 0 }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 12 }}
runtime_version {{ major: 13 minor: 0 }}
device_description_str: "{kind}"
"""


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips of one kind in a torus (TPU) or on one host and more (GPU)."""

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """The number of chips."""
        return math.prod(self.shape)

    def mesh(self, data: int, fsdp: int, seq: int, model: int) -> jax.sharding.Mesh:
        """Returns the mesh that `sharding.make_mesh` makes on the machine itself. Raises ValueError for other sizes."""
        sizes = (data, fsdp, seq, model)
        if math.prod(sizes) != self.chips:
            flags = " x ".join(f"--mesh_{axis}={size}" for axis, size in zip(MESH_AXES, sizes, strict=True))
            raise ValueError(f"{flags} is {math.prod(sizes)} chips, but --topology={self.name} has {self.chips}")
        return sharding.make_mesh(*sizes, devices=devices(self))


def parse_topology(name: str) -> Topology:
    """Parses "v5e:16x16", "v5p:4x4x8", "h200:4". Raises ValueError for anything else."""
    kind, _, shape = name.partition(":")
    axes = {"v5e": 2, "v6e": 2, "v5p": 3}.get(kind, 1)
    sizes = shape.split("x")
    if kind not in CHIPS or len(sizes) != axes or not all(size.isdigit() and int(size) for size in sizes):
        raise ValueError(f"--topology={name}: write {', '.join(CHIPS)}, a colon, and the chips: v5e:16x16 or h200:4")
    return Topology(name, CHIPS[kind], tuple(map(int, sizes)))


def devices(topology: Topology) -> list[Any]:
    """Returns descriptions of devices that programs can be compiled for. Raises ValueError, with what to install."""
    prepare_libtpu()
    chip = topology.chip
    try:
        if chip.platform == "tpu":
            description = topologies.get_topology_desc(platform="tpu", topology_name=topology.name)
        else:
            target = HOPPER.format(rate=chip.hbm_rate, memory=chip.hbm / 0.94, kind=chip.kind)
            hosts = max(1, topology.chips // NVLINK)
            grid = f"1x{hosts}x{topology.chips // hosts}"
            description = topologies.get_topology_desc(
                platform="cuda", topology_name="", target_config=target, topology=grid
            )
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"--topology={topology.name} cannot be compiled for: {install_advice(chip, error)}") from error
    return list(description.devices)


def install_advice(chip: Chip, error: Exception) -> str:
    """Returns what to install, or the compiler's own message."""
    needed = "libtpu" if chip.platform == "tpu" else "jax_cuda13_plugin"
    if importlib.util.find_spec(needed):
        return str(error)
    version = LIBTPU.get(jax.__version__.rpartition(".")[0])
    package = (f"libtpu=={version}.*" if version else "libtpu") if chip.platform == "tpu" else "jax[cuda13]"
    return f'pip install "{package}" (a compiler that runs without the machine)'


def prepare_libtpu() -> None:
    """Prepares the environment for compilers of machines that are not at hand; before any of them is loaded."""
    jax.config.update("jax_platforms", "cpu")
    for name, value in {
        "TPU_SKIP_MDS_QUERY": "1",  # else libtpu queries the cloud for the machine's type
        "TPU_ACCELERATOR_TYPE": "v5litepod-16",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # by several processes at a time: no TPU is used
        "LIBTPU_INIT_ARGS": TPU_OVERLAP,
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",  # of a driver that is not installed
    }.items():
        os.environ.setdefault(name, value)
