"""Device meshes, and whether a model and a batch can be split over one."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from longjax.config import ModelConfig
from longjax.sharding.partition import BATCH, divides_axis
from longjax.sharding.tpu_topology import compact_device_order


def make_mesh(
    data: int = 1, fsdp: int = 1, seq: int = 1, model: int = 1, devices: Sequence[Any] | None = None
) -> jax.sharding.Mesh:
    """Returns a mesh with the axes data, fsdp, seq and model; on TPUs, devices of one sequence are neighbors.

    Args:
      data: groups of devices, each with a copy of the weights.
      fsdp: devices that the batch and the weights are split over.
      seq: devices that a sequence and the weights are split over.
      model: devices that heads, the feed-forward layer and the vocabulary are split over.
      devices: None: all devices of all processes.

    Raises:
      ValueError: the product of the sizes is not the number of devices.

    """
    sizes = {"data": data, "fsdp": fsdp, "seq": seq, "model": model}
    devices = jax.devices() if devices is None else devices
    if (count := math.prod(sizes.values())) != len(devices):
        flags = " x ".join(f"--mesh_{axis}={size}" for axis, size in sizes.items())
        raise ValueError(f"{flags} is {count} devices, but there are {len(devices)}")
    grid = np.array(compact_device_order(devices, seq * model)).reshape(tuple(sizes.values()))
    return jax.sharding.Mesh(grid, tuple(sizes), axis_types=(jax.sharding.AxisType.Explicit,) * len(sizes))


def check_divisible(cfg: ModelConfig, rows: int, length: int, mesh: jax.sharding.Mesh) -> None:
    """Checks that the model and batches of `rows` x `length` tokens can be split over the mesh.

    Raises:
      ValueError: an axis is not divisible; the message names the flags.

    """
    for name, size, axes in (
        ("--micro_batch_size", rows, BATCH), ("--length", length, ("seq",)), ("heads", cfg.heads, ("model",)),
        ("kv_heads", cfg.kv_heads, ("model",)), ("ffn", cfg.ffn, ("model",)),
    ):  # fmt: skip
        if not divides_axis(size, axes, mesh):
            over = " x ".join(f"--mesh_{axis}={mesh.shape[axis]}" for axis in axes)
            raise ValueError(f"{name}={size} cannot be split over {over}")
