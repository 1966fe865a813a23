"""Floating-point operations of training, and the peak of the machine: what a model FLOPs utilisation (MFU) needs.

Counted are the multiplications and additions of matrix products that the mathematics asks for: weights, scores
and mixtures of values. Norms, softmax, rotation, the optimiser and work done again to save memory are not.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from longjax.attention.branched import BranchedAttention
from longjax.attention.core import Attention
from longjax.config import ModelConfig
from longjax.methods.method import Method
from longjax.model.llama import Llama, layer_shapes

QUERIES = 4099  # of a long row are looked at; prime, so that no chunk size is in step with them

# Dense bfloat16 peaks by jax's device_kind, from the makers' data sheets. The longest name that fits counts.
PEAKS = {
    "NVIDIA H200": 989e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA A100": 312e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
}


class DeviceKind(Protocol):
    """What of a jax.Device is asked here."""

    @property
    def device_kind(self) -> str: ...


class Flops(NamedTuple):
    """Of the whole work, all devices together.

    Attributes:
      useful: attention counts the keys that queries see.
      full: attention counts every query with every key of its row, as some other tools do.

    """

    useful: float
    full: float


def train_flops(cfg: ModelConfig, method: Method, length: int, tokens: int, documents: Sequence[int] = ()) -> Flops:
    """Of training on `tokens` tokens in rows of `length`: forward once, and backward what is needed of it.

    Backward, every product is made again for the gradient of its input, and once more for that of its weight where
    the weight is trained: three times forward if all are. Adapters (LoRA) count as the two thin products x A B.
    This code multiplies A B first and so pays for the gradient of the weight they are added to; that, as all else
    that arithmetic does not force, is not counted.

    Args:
      cfg: with the method's own token, if it has one.
      method: as trained.
      length: of the rows that the model sees, after the method cut them or inserted its tokens.
      tokens: of those rows.
      documents: lengths of the documents of a typical row, if they do not see each other.

    """
    weights, trained = matmul_weights(cfg, method)
    attention = Llama(cfg, method, train=True).attention(length)
    parts = documents or (length,)
    seen = sum(n * visible_keys(attention, cfg.heads, n) for n in parts) / sum(parts)
    products = 2 * (2 * weights + trained)
    pair = 3 * 4 * cfg.layers * cfg.heads * cfg.head_dim  # a query and a key: two products, and four backward
    return Flops(tokens * (products + pair * seen), tokens * float(products + pair * length))


def matmul_weights(cfg: ModelConfig, method: Method) -> tuple[int, int]:
    """-> (weights that a token is multiplied with, those of them that are trained)."""
    sizes = {name: cfg.layers * math.prod(shape) for name, shape in layer_shapes(cfg).items() if is_matrix(name)}
    sizes["embed_VD" if cfg.tied else "unembed_DV"] = cfg.dim * cfg.vocab
    method_params = jax.eval_shape(lambda: method.init_params(jax.random.key(0), cfg)).get("layers", {})
    sizes |= {f"method/layers/{name}": x.size for name, x in method_params.items() if name.startswith("lora_")}
    return sum(sizes.values()), sum(size for path, size in sizes.items() if method.trainable(path))


def is_matrix(name: str) -> bool:
    return "norm" not in name and "bias" not in name


def visible_keys(attention: Attention, heads: int, length: int) -> float:
    """-> the mean number of keys that a query of a row of `length` tokens sees.

    Exact to QUERIES tokens; beyond, the mean over so many queries evenly spread. A branch's mask is not asked: back
    ends compute the whole interval. Attention that is no union of branches counts as causal, which is what Landmark
    does in training, and an upper bound for what it and LM-Infinite's look back do after it.
    """
    if not isinstance(attention, BranchedAttention):
        return (length + 1) / 2
    count = min(length, QUERIES)
    i_T = jnp.asarray((np.arange(count) + 0.5) * (length / count), jnp.int32)
    head_N, seen = jnp.arange(heads, dtype=jnp.int32), 0.0
    for branch in attention.branches:  # which never overlap
        lo, hi = (np.clip(np.asarray(x), 0, length) for x in branch.interval(i_T[:, None], head_N))
        seen += np.maximum(hi - lo, 0).mean(dtype=np.float64)
    return float(seen)


def peak_flops(device: DeviceKind) -> float | None:
    """-> bfloat16 operations a second of one device; None if this table does not know it, as with every CPU."""
    fitting = [name for name in PEAKS if device.device_kind.startswith(name)]
    return PEAKS[max(fitting, key=len)] if fitting else None
