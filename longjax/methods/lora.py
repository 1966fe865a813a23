"""Low-rank adapters (LoRA): W + alpha / rank * A B. Hu et al. 2021, arXiv:2106.09685, equation 3.

A weight's axes are inputs, then outputs. Letters: R rank, L layers, and those of model/llama.py.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from longjax.config import ModelConfig
from longjax.methods.identity import identified
from longjax.methods.method import JointInit, Method, no_params, unchanged_weights

AXES = {"q": ("D", "NH"), "k": ("D", "KH"), "v": ("D", "KH"), "o": ("NH", "D"),
        "gate": ("D", "F"), "up": ("D", "F"), "down": ("F", "D")}  # fmt: skip


def weight_name(name: str) -> str:
    """Returns the name of a projection's weight: q_DNH of "q"."""
    return f"{name}_{''.join(AXES[name])}"


def lora_param_names(name: str) -> tuple[str, str]:
    """Returns the names of a projection's A and B: lora_q_a_DR and lora_q_b_RNH of "q"."""
    inputs, outputs = AXES[name]
    return f"lora_{name}_a_{inputs}R", f"lora_{name}_b_R{outputs}"


@dataclasses.dataclass(frozen=True)
class Lora:
    """Adds adapters to one layer's weights, in float32: a `Method.adapt`.

    Attributes:
      rank: of the adapters.
      alpha: the products are multiplied by alpha / rank.
      names: the projections that have adapters.

    """

    rank: int = 8
    alpha: float = 16.0
    names: tuple[str, ...] = ("q", "k", "v", "o")

    def __call__(self, w: dict[str, jax.Array], method_params: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return w | {
            weight: w[weight].astype(jnp.float32) + self.delta(name, method_params)
            for name, weight in zip(self.names, map(weight_name, self.names), strict=True)
        }

    def delta(self, name: str, method_params: dict[str, jax.Array]) -> jax.Array:
        """Returns the product that is added to a weight, with the axes of that weight."""
        (a, b), (inputs, outputs) = lora_param_names(name), AXES[name]
        product = jnp.einsum(
            f"{inputs}R,R{outputs}->{inputs}{outputs}", method_params[a], method_params[b], precision="highest"
        )
        return self.alpha / self.rank * product


@dataclasses.dataclass(frozen=True)
class LoraInit:
    """Initializes A uniformly within 1 / sqrt(inputs) (kaiming, a = sqrt 5) and B to zero: a `Method.init_params`."""

    lora: Lora = Lora()

    def __call__(self, key: jax.Array, cfg: ModelConfig) -> dict[str, Any]:
        size = {"D": cfg.dim, "N": cfg.heads, "K": cfg.kv_heads, "H": cfg.head_dim, "F": cfg.ffn, "R": self.lora.rank}
        layers = {}
        for name, name_key in zip(self.lora.names, jax.random.split(key, len(self.lora.names)), strict=True):
            a, b = lora_param_names(name)
            a_shape, b_shape = ((cfg.layers, *(size[axis] for axis in x.rsplit("_", 1)[1])) for x in (a, b))
            bound = math.prod(a_shape[1:-1]) ** -0.5
            layers[a] = jax.random.uniform(name_key, a_shape, jnp.float32, -bound, bound)
            layers[b] = jnp.zeros(b_shape, jnp.float32)
        return {"layers": layers}


def merge(params: dict[str, Any], lora: Lora) -> dict[str, Any]:
    """Returns the parameters of the same model without adapters: their products are added to the weights."""
    method_params = params["method"]
    weights = {name: params[name] for name in map(weight_name, lora.names)}
    rest = {name: x for name, x in method_params["layers"].items() if not name.startswith("lora_")}
    method = {name: x for name, x in method_params.items() if name != "layers"} | ({"layers": rest} if rest else {})
    return params | jax.vmap(lora)(weights, method_params["layers"]) | {"method": method}


def adapters_only(path: str) -> bool:
    """Trains the method's parameters, adapters among them: a `Method.trainable`."""
    return path.startswith("method/")


@identified
def with_lora(method: Method, rank: int = 8, alpha: float = 16.0, names: tuple[str, ...] = tuple(AXES)) -> Method:
    """Returns the method with adapters. They and the method's parameters are trained, and alone have moments.

    Args:
      method: without adapters.
      rank: of the adapters.
      alpha: adapters are multiplied by alpha / rank.
      names: the projections that get adapters, of q, k, v, o, gate, up and down.

    Raises:
      ValueError: the method has adapters already.

    """
    if method.adapt is not unchanged_weights:
        raise ValueError("--lora_rank: the method already has adapters; use its --rank")
    lora = Lora(rank, alpha, names)
    init = LoraInit(lora) if method.init_params is no_params else JointInit((method.init_params, LoraInit(lora)))
    return dataclasses.replace(method, init_params=init, adapt=lora, trainable=adapters_only)


@identified
def in_weights(method: Method) -> Method:
    """Returns the method without adapters, for a checkpoint whose weights include them."""
    return dataclasses.replace(method, adapt=unchanged_weights, init_params=no_params)
