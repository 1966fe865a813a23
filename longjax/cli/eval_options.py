"""Options of an evaluation: a checkpoint with a method, benchmarks, and where the records go."""

import dataclasses
import functools
import pathlib
from typing import Literal

from absl import logging

from longjax.checkpoints import pretrained
from longjax.checkpoints.extension import extension_method
from longjax.checkpoints.pretrained import Checkpoint
from longjax.cli.names import did_you_mean, lengths, method_by_name
from longjax.data.tokenizer import Tokenizer
from longjax.evals.benchmarks import BENCHMARKS
from longjax.evals.context import EvalContext
from longjax.evals.harness.runner import is_installed
from longjax.methods import Method, ds_bf16
from longjax.methods.lora import LoraInit, in_weights
from longjax.ranges import check_range


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    """What is evaluated, on which benchmarks, and where the records go."""

    checkpoint: str = ""  # directory of the checkpoint: Hugging Face, Meta, or converted to orbax
    adapter: str | None = None  # directory with PEFT adapters or LongLoRA's release, merged into the weights
    method: str = ""  # method, by name; "": positions and attention as the checkpoint's configuration has them
    method_config: str = ""  # parameters of --method, joined by spaces: "factor=8 beta_fast=32"
    name: str = ""  # name of the run in directories and tables; "": the method's
    tasks: str = "all"  # benchmarks, joined by commas; all: every one that is installed
    data_dir: str = "data/eval"  # directory with the benchmarks' files; tools.make_eval_data writes small ones
    out_dir: str = "runs/eval"  # directory of runs; records and scores go to a directory of the run's name in it
    lengths: str = "4096"  # lengths of prompts with their answers, in tokens, joined by commas
    opening: str = ""  # token that opens every prompt; "": what the tokenizer itself adds; none: no token
    position_tables: Literal["float32", "ds_bf16"] = "float32"  # ds_bf16: rounded to bfloat16 as DeepSpeed rounds them
    rope_length: Literal["stateless", "sticky", "sticky_with_reset"] = "stateless"  # sticky: of the longest row so far
    seed: int = 0  # seed of all random choices
    num_samples: int | None = None  # most examples of a task; None: the benchmark's number
    prompts: str | None = None  # directory with the benchmarks' own prompts, see tools.extract_prompts; None: ours
    skip_bad: bool = False  # skip and count lines of data files that cannot be read
    batch_tokens: int = 16_384  # tokens of a batch, about; results do not depend on it
    max_length: int | None = None  # longest request that the model may get, in tokens; None: any
    max_compilations: int | None = None  # stop before the first program if more are needed
    dtype: Literal["bfloat16", "float32"] = "bfloat16"  # dtype of weights and activations
    dry_run: bool = False  # print the plan and stop

    def __post_init__(self):
        check_range(self, ("batch_tokens", "num_samples", "max_length"), 1, 2**31)
        check_range(self, ("max_compilations",), 0)
        check_range(self, ("seed",), 0, 2**63)
        if not lengths(self.lengths):
            raise ValueError("--lengths is empty: name at least one, like --lengths=4096")
        for name in self.benchmarks:
            if name not in BENCHMARKS:
                raise ValueError(f"--tasks={self.tasks}: {name} is unknown{did_you_mean(name, BENCHMARKS)}")

    @functools.cached_property
    def benchmarks(self) -> list[str]:
        """Names of the benchmarks; "all" has the short tasks only if their package is installed."""
        if self.tasks != "all":
            return self.tasks.split(",")
        if is_installed():
            return [*BENCHMARKS]
        logging.warning("--tasks=all leaves out short: pip install longjax[harness]")
        return [name for name in BENCHMARKS if name != "short"]

    def open_checkpoint(self) -> Checkpoint:
        """Opens the checkpoint of --checkpoint, without reading tensors."""
        if not self.checkpoint:
            raise ValueError("--checkpoint is needed: a directory")
        return pretrained.open_checkpoint(self.checkpoint, self.adapter, self.dtype)

    def method_on(self, checkpoint: Checkpoint) -> Method:
        """Returns the method on this checkpoint. Raises ValueError if the checkpoint was trained for another."""
        method = extension_method(checkpoint, method_by_name(self.method, self.method_config) if self.method else None)
        if isinstance(method.init_params, LoraInit):  # checkpoints hold weights to which adapters have been added
            method = in_weights(method)
        return ds_bf16(method) if self.position_tables == "ds_bf16" else method

    def tokenizer(self, checkpoint: Checkpoint) -> Tokenizer:
        """Opens the checkpoint's tokenizer."""
        return Tokenizer(checkpoint.folder, opening=self.opening)

    def context(self, checkpoint: Checkpoint) -> EvalContext:
        """Returns what the benchmarks make their requests from."""
        return EvalContext(
            pathlib.Path(self.data_dir), self.tokenizer(checkpoint), lengths(self.lengths), self.seed,
            self.num_samples, pathlib.Path(self.prompts) if self.prompts else None, self.skip_bad,
            checkpoint.cfg.trained_len,
        )  # fmt: skip

    def run_name(self, checkpoint: Checkpoint) -> str:
        """Returns the name of the run in directories and tables."""
        return self.name or self.method or checkpoint.folder.resolve().name
