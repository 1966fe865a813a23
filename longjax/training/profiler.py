"""A jax.profiler trace of some training steps."""

import pathlib

import jax

from longjax.training.step_logger import Numbers


class StepProfiler:
    """Traces training steps into a folder, on the first host.

    Args:
      steps: "first:last", as of --profile; None: no trace.
      folder: of the trace.

    Raises:
      ValueError: `steps` is not two steps.

    """

    def __init__(self, steps: str | None, folder: pathlib.Path):
        try:
            self.first, self.last = map(int, steps.split(":")) if steps else (-1, -1)
        except ValueError as error:
            raise ValueError(f"--profile={steps} must be two steps, as --profile=10:15") from error
        self.folder, self.tracing = folder, False

    def before(self, step: int) -> None:
        """Starts the trace before its first step."""
        if step == self.first and jax.process_index() == 0:
            jax.profiler.start_trace(self.folder)
            self.tracing = True

    def after(self, step: int, numbers: Numbers) -> None:
        """Ends the trace after its last step, whose metrics it waits for."""
        if self.tracing and step == self.last:
            jax.block_until_ready(numbers)
            self.close()

    def close(self) -> None:
        """Ends the trace."""
        if self.tracing:
            jax.profiler.stop_trace()
            self.tracing = False
