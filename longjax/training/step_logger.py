"""Per-step logging of training: metrics file, progress line, too many skipped steps."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from longjax.progress import ProgressFn, format_duration
from longjax.training import position_loss
from longjax.training.metrics_writer import MetricsWriter
from longjax.training.throughput import ThroughputMeter, peak_memory

Numbers = dict[str, Any]


class StepLogger:
    """Fetches a step's metrics while the next step runs, so that devices do not wait for the host.

    Args:
      log: writes metrics; None on hosts other than the first.
      meter: computes rates.
      report: gets a progress line for every step.
      steps: steps of the whole training.
      shape: rows and tokens a row of a step, as the model has them.
      max_skipped_steps: consecutive skipped steps after which ValueError is raised.

    """

    def __init__(
        self,
        log: MetricsWriter | None,
        meter: ThroughputMeter,
        report: ProgressFn,
        steps: int,
        shape: tuple[int, int],
        max_skipped_steps: int,
    ):
        self.log, self.meter, self.report = log, meter, report
        self.steps, self.max_skipped_steps = steps, max_skipped_steps
        self.tokens, self.edges = shape[0] * shape[1], position_loss.bucket_edges(shape[1])
        self.pending: tuple[int, Numbers, Numbers] | None = None
        self.since, self.waiting = time.perf_counter(), 0.0

    def log_async(self, step: int, numbers: Numbers, more: Numbers) -> None:
        """Logs a step that was started, once the next one is. `numbers` are still on the devices; `more` are added."""
        self.flush()
        self.pending = (step, numbers, more)

    def flush(self) -> None:
        """Logs the pending step; waits for it. Raises ValueError if too many consecutive steps were skipped."""
        if self.pending is None:
            return
        (step, numbers, more), self.pending = self.pending, None
        numbers = {name: np.asarray(x) for name, x in numbers.items()}  # waits for the step
        now = time.perf_counter()
        loss_P, weight_P, skips = (numbers.pop(name) for name in ("loss_P", "weight_P", "consecutive_skips"))
        metrics = {name: x.item() for name, x in numbers.items()}
        rates = self.meter(step, self.tokens, now - self.since, self.waiting)
        self.since, self.waiting = now, 0.0
        if self.log:
            by_position = position_loss.bucket_means(loss_P.tolist(), weight_P.tolist(), self.edges)
            self.log(
                step,
                {"tokens_seen": (step + 1) * self.tokens}
                | metrics
                | by_position
                | rates
                | peak_memory(jax.local_devices())
                | more,
            )
        self.report((step + 1) / self.steps, progress_line(step, self.steps, metrics, rates, more))
        if skips >= self.max_skipped_steps:
            raise ValueError(
                f"{skips} steps in a row, to step {step}, had a loss or gradient that is not finite or a spike: "
                f"lower --learning_rate, or look at the rows of steps {step - skips + 1} to {step}"
            )

    def timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yields the batches, and measures the time that each is waited for."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.waiting += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    @contextlib.contextmanager
    def untimed(self, numbers: Numbers) -> Iterator[None]:
        """Excludes the time of this block, after the step that gives `numbers`, from the rates of training."""
        self.flush()
        jax.block_until_ready(numbers)
        began = time.perf_counter()
        yield
        self.since += time.perf_counter() - began


def progress_line(step: int, steps: int, metrics: Numbers, rates: Numbers, more: Numbers) -> str:
    """Returns one line about a step: loss, evaluations, skipped steps, rates, remaining time."""
    words = [f"step {step + 1}/{steps}", f"loss {metrics['loss']:.3f}"]
    words += [f"{name} {x:.3g}" for name, x in more.items()]
    if metrics["skipped"]:
        words.append(f"{metrics['skipped']} steps skipped")
    if "tokens_per_s" in rates:
        words.append(f"{rates['tokens_per_s']:,.0f} tokens/s")
    if "mfu" in rates:
        words.append(f"MFU {rates['mfu']:.1%}")
    if "eta_seconds" in rates:
        words.append(f"ETA {format_duration(rates['eta_seconds'])}")
    return ", ".join(words)
