"""A training recipe: how long, on how many rows, and with which optimizer. Its fields are flags."""

import dataclasses
from typing import Literal

from longjax.ranges import BELOW_ONE, POSITIVE, check_range


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A training recipe. The defaults are the protocol of arXiv:2409.12181, appendix 9.2.

    The EMA decay has no published value; 0.99 is ours, for about a thousand steps (0.99 ** 1000 is 4e-5).
    """

    steps: int = 961  # optimizer updates of the whole training
    batch_size: int = 32  # rows of an update
    micro_batch_size: int | None = None  # rows of a forward and backward pass, which accumulate gradients; None: all
    learning_rate: float = 2e-5  # highest learning rate
    schedule: Literal["constant", "cosine", "linear", "ds_log", "ds_log_decay"] = "constant"  # of the learning rate
    warmup: int = 20  # updates of the warm-up
    min_lr_ratio: float = 0.1  # final learning rate of the cosine schedule, as a share of the highest
    warmup_from_zero: bool = False  # start the warm-up at rate 0, as Hugging Face does, not at rate / warmup
    weight_decay: float = 0.0  # AdamW's; norms, biases and embeddings do not decay
    b1: float = 0.9  # AdamW's decay of the first moment
    b2: float = 0.999  # AdamW's decay of the second moment
    eps: float = 1e-8  # AdamW's epsilon
    mu_dtype: Literal["float32", "bfloat16"] = "float32"  # type of the first moment
    max_grad_norm: float = 1.0  # gradients are clipped to this norm
    frequency_rate: float = 1.0  # learning rate of learned frequencies (CLEX), as a multiple of --learning_rate
    joint_clip: bool = False  # clip learned frequencies together with all other gradients, as published scripts do
    ema_decay: float = 0.99  # decay of the average of the weights; 0: no average
    spike_sigmas: float = 0.0  # skip updates this many deviations above the recent mean; 0: only non-finite ones
    state_dtype: Literal["float32", "bfloat16"] = "float32"  # type of moments; bfloat16 also splits weights in halves
    frozen_dtype: Literal["float32", "bfloat16"] = "float32"  # type of weights that are not trained
    seed: int = 0  # of the order of data, of new weights and of random factors (CLEX)

    def __post_init__(self):
        check_range(self, ("steps", "batch_size", "micro_batch_size"), 1, 2**31)
        check_range(self, ("learning_rate", "eps", "max_grad_norm"), POSITIVE)
        check_range(self, ("warmup", "weight_decay", "frequency_rate", "spike_sigmas"), 0)
        check_range(self, ("b1", "b2", "ema_decay"), 0, BELOW_ONE)
        check_range(self, ("min_lr_ratio",), 0, 1.0000001)
        check_range(self, ("seed",), 0, 2**63)
