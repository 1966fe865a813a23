"""How fast training goes: tokens a second, share of the machine's peak, time left."""

import collections
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

WINDOW = 32  # the latest steps, which rates are a mean over


class StepTiming(NamedTuple):
    tokens: int
    seconds: float
    waiting: float


class DeviceWithMemory(Protocol):
    """What of a jax.Device is asked here."""

    def memory_stats(self) -> dict[str, Any] | None: ...


class ThroughputMeter:
    """Told of every step once it is done; the first, which compiles, is left out of all rates.

    Args:
      steps: of the whole training.
      devices: that work on it.
      useful, full: floating-point operations a token, see `flops.train_flops`.
      peak: operations a second of one device. None: unknown, and the shares of it are not reported.

    """

    def __init__(self, steps: int, devices: int, useful: float, full: float, peak: float | None):
        self.steps, self.devices, self.peak = steps, devices, peak
        self.shares = {"mfu": useful, "mfu_full_attention": full}
        self.latest: collections.deque[StepTiming] = collections.deque(maxlen=WINDOW)
        self.compiled = False

    def __call__(self, step: int, tokens: int, seconds: float, waiting: float = 0.0) -> dict[str, float]:
        """-> the numbers to log of step `step`, counted from 0.

        Args:
          step: that is done.
          tokens: of all devices.
          seconds: since the step before was done.
          waiting: of these, how long the devices had no batch.

        """
        if not self.compiled:
            self.compiled = True
            return {"seconds": seconds}
        self.latest.append(StepTiming(tokens, seconds, waiting))
        total = StepTiming(*(sum(column) for column in zip(*self.latest, strict=True)))
        rate = total.tokens / total.seconds
        numbers = {
            "seconds": seconds, "tokens_per_s": rate, "tokens_per_s_per_device": rate / self.devices,
            "data_wait": total.waiting / total.seconds,
            "eta_seconds": (self.steps - step - 1) * total.seconds / len(self.latest),
        }  # fmt: skip
        if self.peak:
            numbers |= {name: rate * flops / (self.peak * self.devices) for name, flops in self.shares.items()}
        return numbers


def peak_memory(devices: Iterable[DeviceWithMemory]) -> dict[str, float]:
    """-> the most bytes that one of the devices has held, in GiB; nothing where they do not tell (CPUs)."""
    peaks = [stats["peak_bytes_in_use"] for d in devices if "peak_bytes_in_use" in (stats := d.memory_stats() or {})]
    return {"peak_memory_gib": max(peaks) / 2**30} if peaks else {}
