"""What this machine's devices can do, measured in a process of its own that gives them back."""

import os
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

from longjax.pools import process_pool
from longjax.training.memory_estimate import limit_bytes

SIDE = {"gpu": 8192, "tpu": 8192, "cpu": 1024}  # of the products that are timed


class Device(NamedTuple):
    """A kind of device, and how many of them there are.

    Attributes:
      kind: as JAX names it.
      platform: gpu, tpu or cpu.
      number: of them.
      memory: bytes that programs may use of one; None: no limit is known (CPUs).
      flops: operations a second in products of matrices, in bfloat16 on accelerators and in float32 on CPUs.

    """

    kind: str
    platform: str
    number: int
    memory: int | None
    flops: float


def probe_devices() -> Device:
    """Returns the devices that a study would use."""
    with process_pool(1) as pool:
        return pool.submit(measure_devices, os.environ.get("JAX_PLATFORMS") == "cpu").result()


def measure_devices(only_cpu: bool) -> Device:
    """Returns the devices of this process."""
    if only_cpu:
        jax.config.update("jax_platforms", "cpu")
    first = jax.local_devices()[0]
    rate = product_rate(first.platform)
    return Device(first.device_kind, first.platform, jax.local_device_count(), limit_bytes(first), rate)


def product_rate(platform: str, repeats: int = 5) -> float:
    """Returns operations a second of square products, the median of several."""
    side = SIDE.get(platform, SIDE["cpu"])
    x = jax.random.normal(jax.random.key(0), (side, side), jnp.float32 if platform == "cpu" else jnp.bfloat16)
    product, times = jax.jit(lambda a: a @ a), []
    for _ in range(repeats + 1):  # the first compiles
        start = time.perf_counter()
        product(x).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * side**3 / sorted(times[1:])[repeats // 2]
