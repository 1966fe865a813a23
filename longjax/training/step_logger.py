"""What a training run says of its steps: to the log, to the one who waits, and to a profiler."""

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
    """Fetches a step's numbers while the next step runs, so that devices never wait for the host.

    Args:
      log: None on hosts other than the first.
      meter: rates.
      report: told of every step.
      steps: of the whole training.
      shape: rows and tokens of a step, as the model sees them.
      most_skipped: steps left out in a row, before ValueError is raised.

    """

    def __init__(
        self,
        log: MetricsWriter | None,
        meter: ThroughputMeter,
        report: ProgressFn,
        steps: int,
        shape: tuple[int, int],
        most_skipped: int,
    ):
        self.log, self.meter, self.report = log, meter, report
        self.steps, self.most_skipped = steps, most_skipped
        self.tokens, self.bounds = shape[0] * shape[1], position_loss.bucket_edges(shape[1])
        self.late: tuple[int, Numbers, Numbers] | None = None
        self.since, self.waited = time.perf_counter(), 0.0

    def log_async(self, step: int, numbers: Numbers, more: Numbers) -> None:
        """Step `step` was started; `numbers` are still on the devices, `more` is added to them."""
        self.flush()
        self.late = (step, numbers, more)

    def flush(self) -> None:
        """Says what is not yet said."""
        if self.late is None:
            return
        (step, numbers, more), self.late = self.late, None
        numbers = {name: np.asarray(x) for name, x in numbers.items()}  # waits for the step
        now = time.perf_counter()
        loss_P, weight_P, streak = numbers.pop("loss_P"), numbers.pop("weight_P"), int(numbers.pop("streak"))
        said = {name: x.item() for name, x in numbers.items()}
        rates = self.meter(step, self.tokens, now - self.since, self.waited)
        self.since, self.waited = now, 0.0
        if self.log:
            by_position = position_loss.bucket_means(loss_P.tolist(), weight_P.tolist(), self.bounds)
            self.log(
                step,
                {"tokens_seen": (step + 1) * self.tokens}
                | said
                | by_position
                | rates
                | peak_memory(jax.local_devices())
                | more,
            )
        self.report((step + 1) / self.steps, progress_line(step, self.steps, said, rates, more))
        if streak >= self.most_skipped:
            raise ValueError(
                f"{streak} steps in a row, to step {step}, had a loss or gradient that is no number or a spike: "
                f"lower --learning_rate, or look at the rows of steps {step - streak + 1} to {step}"
            )

    def timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """-> the same, noting how long each was waited for."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    @contextlib.contextmanager
    def untimed(self, numbers: Numbers) -> Iterator[None]:
        """What is done here, after the step that gives `numbers`, is not counted as training."""
        self.flush()
        jax.block_until_ready(numbers)
        began = time.perf_counter()
        yield
        self.since += time.perf_counter() - began


def progress_line(step: int, steps: int, said: Numbers, rates: Numbers, more: Numbers) -> str:
    words = [f"step {step + 1}/{steps}", f"loss {said['loss']:.3f}"]
    words += [f"{name} {x:.3g}" for name, x in more.items()]
    if said["skipped"]:
        words.append(f"{said['skipped']} steps left out")
    if "tokens_per_s" in rates:
        words.append(f"{rates['tokens_per_s']:,.0f} tokens/s")
    if "mfu" in rates:
        words.append(f"MFU {rates['mfu']:.1%}")
    if "eta_seconds" in rates:
        words.append(f"ETA {format_duration(rates['eta_seconds'])}")
    return ", ".join(words)
