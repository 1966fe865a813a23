"""A jax.profiler trace of chosen steps."""

import pathlib

import jax

from longjax.training.step_logger import Numbers


class StepProfiler:
    """Profiles the steps of --profile=first:last into a folder, on the first host."""

    def __init__(self, steps: str | None, folder: pathlib.Path):
        try:
            self.first, self.last = map(int, steps.split(":")) if steps else (-1, -1)
        except ValueError as error:
            raise ValueError(f"--profile={steps} must be two steps, as 10:15") from error
        self.folder, self.on = folder, False

    def before(self, step: int) -> None:
        if step == self.first and jax.process_index() == 0:
            jax.profiler.start_trace(self.folder)
            self.on = True

    def after(self, step: int, numbers: Numbers) -> None:
        if self.on and step == self.last:
            jax.block_until_ready(numbers)
            self.close()

    def close(self) -> None:
        if self.on:
            jax.profiler.stop_trace()
            self.on = False
