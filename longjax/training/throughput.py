"""Throughput of training: tokens a second, model FLOPs utilization, remaining time, peak memory."""

import collections
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

WINDOW = 32  # recent steps that rates are averaged over


class StepTiming(NamedTuple):
    """Tokens of a step, its seconds, and how many of these the devices waited for the batch."""

    tokens: int
    seconds: float
    waiting: float


class DeviceWithMemory(Protocol):
    """The part of jax.Device that `peak_memory` needs."""

    def memory_stats(self) -> dict[str, Any] | None:
        """Returns the allocator's statistics; None where there are none."""
        ...


class ThroughputMeter:
    """Computes rates over recent steps. The first step, which compiles, is not counted.

    Args:
      steps: steps of the whole training.
      devices: number of devices.
      useful: floating-point operations a token of required work, see `flops.Flops`.
      full: floating-point operations a token with full attention, see `flops.Flops`.
      peak: operations a second of one device; None: unknown, and utilization is not reported.

    """

    def __init__(self, steps: int, devices: int, useful: float, full: float, peak: float | None):
        self.steps, self.devices, self.peak = steps, devices, peak
        self.flops = {"mfu": useful, "mfu_full_attention": full}
        self.recent: collections.deque[StepTiming] = collections.deque(maxlen=WINDOW)
        self.compiled = False

    def __call__(self, step: int, tokens: int, seconds: float, waiting: float = 0.0) -> dict[str, float]:
        """Returns the rates to log after a step.

        Args:
          step: the number of the step, from 0.
          tokens: of the step, over all devices.
          seconds: since the previous step was done.
          waiting: seconds of these in which the next batch was waited for.

        """
        if not self.compiled:
            self.compiled = True
            return {"seconds": seconds}
        self.recent.append(StepTiming(tokens, seconds, waiting))
        total = StepTiming(*(sum(column) for column in zip(*self.recent, strict=True)))
        rate = total.tokens / total.seconds
        numbers = {
            "seconds": seconds, "tokens_per_s": rate, "tokens_per_s_per_device": rate / self.devices,
            "data_wait": total.waiting / total.seconds,
            "eta_seconds": (self.steps - step - 1) * total.seconds / len(self.recent),
        }  # fmt: skip
        if self.peak:
            numbers |= {name: rate * flops / (self.peak * self.devices) for name, flops in self.flops.items()}
        return numbers


def peak_memory(devices: Iterable[DeviceWithMemory]) -> dict[str, float]:
    """Returns {"peak_memory_gib": the largest of the devices' peaks in GiB}; {} where there are none (CPUs)."""
    peaks = [stats["peak_bytes_in_use"] for d in devices if "peak_bytes_in_use" in (stats := d.memory_stats() or {})]
    return {"peak_memory_gib": max(peaks) / 2**30} if peaks else {}
