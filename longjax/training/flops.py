"""Floating-point operations of training, and the peaks of devices, for model FLOPs utilization (MFU).

Counted are the multiplications and additions of the matrix products that the mathematics requires: with weights, of
attention scores and of weighted values. Norms, softmax, rotation, the optimizer and rematerialization are not counted.
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

QUERIES = 4099  # sampled queries of a long row; prime, so that they are in step with no chunk size

# Dense bfloat16 peaks in operations a second by jax's device_kind, from the makers' data sheets. The longest prefix of
# device_kind counts.
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
    """The part of jax.Device that `peak_flops` needs."""

    @property
    def device_kind(self) -> str: ...


class Flops(NamedTuple):
    """Floating-point operations of all devices together.

    Attributes:
      useful: attention counts the keys that queries attend to.
      full: attention counts every query with every key of its row, as some other tools do.

    """

    useful: float
    full: float


def train_flops(cfg: ModelConfig, method: Method, length: int, tokens: int, documents: Sequence[int] = ()) -> Flops:
    """Returns the operations of training on `tokens` tokens in rows of `length`, forward and backward.

    The backward pass has one product as large as the forward one for the gradient of each input, and one more for that
    of each trained weight: three times the forward pass if all weights are trained. Adapters (LoRA) count as the two
    thin products x A B. This code multiplies A B first and so pays for the gradient of the weight they are added to;
    that is not counted, as it is not required.

    Args:
      cfg: the model, with the token that the method inserts.
      method: the method that is trained.
      length: tokens of the model's rows, after the method split them or inserted its tokens.
      tokens: tokens of all those rows.
      documents: lengths of the documents of a typical row, if they do not attend to each other.

    """
    weights, trained = matmul_weights(cfg, method)
    attention = Llama(cfg, method, train=True).attention(length)
    segments = documents or (length,)
    keys = sum(n * visible_keys(attention, cfg.heads, n) for n in segments) / sum(segments)
    products = 2 * (2 * weights + trained)
    pair = 3 * 4 * cfg.layers * cfg.heads * cfg.head_dim  # a query and a key: two products, and four backward
    return Flops(tokens * (products + pair * keys), tokens * float(products + pair * length))


def matmul_weights(cfg: ModelConfig, method: Method) -> tuple[int, int]:
    """Returns how many weights a token is multiplied with, and how many of them are trained."""
    sizes = {name: cfg.layers * math.prod(shape) for name, shape in layer_shapes(cfg).items() if is_matrix(name)}
    sizes["embed_VD" if cfg.tied else "unembed_DV"] = cfg.dim * cfg.vocab
    method_params = jax.eval_shape(lambda: method.init_params(jax.random.key(0), cfg)).get("layers", {})
    sizes |= {f"method/layers/{name}": x.size for name, x in method_params.items() if name.startswith("lora_")}
    return sum(sizes.values()), sum(size for path, size in sizes.items() if method.trainable(path))


def parameter_count(cfg: ModelConfig) -> int:
    """Returns the number of a model's parameters, norms included."""
    layer = sum(math.prod(shape) for shape in layer_shapes(cfg).values())
    return cfg.layers * layer + cfg.vocab * cfg.dim * (1 if cfg.tied else 2) + cfg.dim


def is_matrix(name: str) -> bool:
    """Returns whether a weight of a layer is a matrix: neither norm nor bias."""
    return "norm" not in name and "bias" not in name


def visible_keys(attention: Attention, heads: int, length: int) -> float:
    """Returns the mean number of keys that a query of a row of `length` tokens attends to.

    It is exact up to QUERIES tokens; beyond, the mean over as many evenly spaced queries. A branch's mask is ignored,
    as backends compute the whole interval. Attention that is no union of branches counts as causal: so is Landmark's in
    training, and for its inference and LM-Infinite's retrieval this is an upper bound.
    """
    if not isinstance(attention, BranchedAttention):
        return (length + 1) / 2
    count = min(length, QUERIES)
    i_T = jnp.asarray((np.arange(count) + 0.5) * (length / count), jnp.int32)
    head_N, keys = jnp.arange(heads, dtype=jnp.int32), 0.0
    for branch in attention.branches:  # which never overlap
        lo, hi = (np.clip(np.asarray(x), 0, length) for x in branch.interval(i_T[:, None], head_N))
        keys += np.maximum(hi - lo, 0).mean(dtype=np.float64)
    return float(keys)


def peak_flops(device: DeviceKind) -> float | None:
    """Returns bfloat16 operations a second of one device; None if `PEAKS` does not have it, as with every CPU."""
    matches = [name for name in PEAKS if device.device_kind.startswith(name)]
    return PEAKS[max(matches, key=len)] if matches else None
