"""Seconds of CPU that RULER's samples take, a task and length.

python -m benchmarks.make_ruler --tokenizer=tokenizer.model --data_dir=data --lengths=4096,65536 --ruler_samples=50
"""

import dataclasses
import pathlib
import tempfile
import time

import numpy as np
from absl import app, flags

from longjax.cli.flags import define
from longjax.data.tokenizer import Tokenizer
from longjax.evals.context import EvalContext
from longjax.evals.ruler import TooShortError
from longjax.evals.ruler.inputs import RulerInputs
from longjax.evals.ruler.tasks import Ruler

TOKENIZER = flags.DEFINE_string("tokenizer", None, "a tokenizer's file", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "as for evaluations", required=True)
LENGTHS = flags.DEFINE_list("lengths", ["4096", "65536"], "in tokens")
RULER = define(Ruler)


def main(_) -> None:
    """Generate the samples and print the time of each task and length."""
    lengths = tuple(map(int, LENGTHS.value))
    inputs = RulerInputs(EvalContext(pathlib.Path(DATA_DIR.value), Tokenizer(TOKENIZER.value), lengths))
    total = 0.0
    with tempfile.TemporaryDirectory() as cache:
        ruler = dataclasses.replace(RULER(), ruler_cache=cache)
        for length in lengths:
            for name in ruler.names:
                start = time.process_time()
                try:
                    task = ruler.task(name, length, inputs)
                except TooShortError as error:
                    print(f"{length:7d} {name:16s} {error}", flush=True)
                    continue
                seconds = time.process_time() - start
                total += seconds
                fills = np.array([request.metadata["fill"] for request in task.requests])
                print(
                    f"{length:7d} {name:16s} {seconds:7.2f} s  {1000 * seconds / len(fills):7.1f} ms a sample  "
                    f"fill {fills.min():.4f} .. {fills.max():.4f}  n {len(fills)}",
                    flush=True,
                )
    print(f"{total:.1f} s in all")


if __name__ == "__main__":
    app.run(main)
