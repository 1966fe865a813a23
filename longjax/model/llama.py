"""LLaMA as one pure function: `Llama(cfg, method).apply({"params": params}, tokens, positions, length)`.

Letters in names are axes: B batch, T tokens, D model, N query heads, K key heads, H head width,
F feed-forward, V vocabulary, L layers.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from longjax.attention.core import Attention, AttentionBackend, AttentionMetadata, Dense, TokenPositions
from longjax.attention.kv_cache import with_layer
from longjax.attention.rope import Rope
from longjax.config import ModelConfig
from longjax.methods.method import Method, no_params
from longjax.model.placement import Placement, SingleDevice, Weights

BIAS_AXES = {"q": "NH", "k": "KH", "v": "KH", "o": "D", "gate": "F", "up": "F", "down": "D"}


def layer_shapes(cfg: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of one layer's weights by name. The layer computes with the weights that are here."""
    size = {"D": cfg.dim, "N": cfg.heads, "K": cfg.kv_heads, "H": cfg.head_dim, "F": cfg.ffn}
    names = ["attn_norm_D", "q_DNH", "k_DKH", "v_DKH", "o_NHD", "up_DF", "down_FD"]
    if cfg.gated:
        names.append("gate_DF")
    if not cfg.parallel:
        names.append("ffn_norm_D")
    if "norm" in cfg.biases:
        names += [name.replace("_D", "_bias_D") for name in ("attn_norm_D", "ffn_norm_D") if name in names]
    names += [f"{name}_bias_{BIAS_AXES[name]}" for name in cfg.biases if name in BIAS_AXES]
    return {name: tuple(size[axis] for axis in name.rsplit("_", 1)[1]) for name in names}


def global_shapes(cfg: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights outside the layers by name."""
    shapes: dict[str, tuple[int, ...]] = {"embed_VD": (cfg.vocab, cfg.dim), "norm_D": (cfg.dim,)}
    if not cfg.tied:
        shapes["unembed_DV"] = (cfg.dim, cfg.vocab)
    if "unembed" in cfg.biases:
        shapes["unembed_bias_V"] = (cfg.vocab,)
    if "norm" in cfg.biases:
        shapes["norm_bias_D"] = (cfg.dim,)
    return shapes


def initializer(name: str, cfg: ModelConfig) -> Callable[..., jax.Array]:
    """Initializer of a weight: variance 1 / inputs, divided by the number of residual sums where it feeds one."""
    if "bias" in name:
        return nn.initializers.zeros
    if "norm" in name:
        return nn.initializers.ones
    inputs = {"embed_VD": 4, "o_NHD": cfg.heads * cfg.head_dim, "down_FD": cfg.ffn, "unembed_DV": 4 * cfg.dim}
    sums = 2 * cfg.layers if name in ("o_NHD", "down_FD") else 1
    return nn.initializers.normal((inputs.get(name, cfg.dim) * sums) ** -0.5)


def norm(x_BTD: jax.Array, w: Weights, name: str, cfg: ModelConfig) -> jax.Array:
    """RMSNorm or LayerNorm, with bias if the weights have one; float32 inside."""
    x, scale = x_BTD.astype(jnp.float32), w[f"{name}_D"].astype(jnp.float32)
    bias = w.get(f"{name}_bias_D")
    if cfg.norm == "layer":
        x = x - jnp.mean(x, -1, keepdims=True)
    y = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + cfg.norm_eps) * scale
    return (y if bias is None else y + bias.astype(jnp.float32)).astype(x_BTD.dtype)


def project(x: jax.Array, w: Weights, name: str, axes: str, act: Any = None) -> jax.Array:
    """Multiply by weight `name`, and add its bias if there is one.

    `axes` is the einsum, e.g. "BTD,DNH->BTNH"; `act` is the sharding of the output.
    """
    ins, outs = axes.split("->")
    y = jnp.einsum(axes, x, w[f"{name}_{ins.split(',')[1]}"], out_sharding=act)
    bias = w.get(f"{name}_bias_{outs[2:]}")
    return y if bias is None else y + bias


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU; jax.nn's default is the approximation by tanh."""
    return jax.nn.gelu(x, approximate=False)


def feed_forward(h_BTD: jax.Array, w: Weights, cfg: ModelConfig, act: Any) -> jax.Array:
    """The feed-forward network of a layer, gated or not."""
    activation = {"silu": jax.nn.silu, "gelu": gelu, "gelu_tanh": jax.nn.gelu}[cfg.act]
    h_BTF = checkpoint_name(project(h_BTD, w, "up", "BTD,DF->BTF"), "up")
    if cfg.gated:
        h_BTF = activation(checkpoint_name(project(h_BTD, w, "gate", "BTD,DF->BTF"), "gate")) * h_BTF
    else:
        h_BTF = activation(h_BTF)
    return project(h_BTF, w, "down", "BTF,FD->BTD", act)


def clip_symmetric(x: jax.Array, limit: float | None) -> jax.Array:
    """Clip to [-limit, limit]; None: not at all."""
    return x if limit is None else jnp.clip(x, -limit, limit)


def decoder_layer(
    x_BTD: jax.Array,
    w: Weights,
    cache: Any,
    metadata: AttentionMetadata,
    attention: Attention,
    cfg: ModelConfig,
    act: Any,
) -> tuple[jax.Array, Any]:
    """Return x_BTD and the cache after one layer. Named activations may be saved by the remat policy."""
    h_BTD = norm(x_BTD, w, "attn_norm", cfg)
    q_BTNH = clip_symmetric(project(h_BTD, w, "q", "BTD,DNH->BTNH"), cfg.clip_qkv)
    k_BTKH = clip_symmetric(project(h_BTD, w, "k", "BTD,DKH->BTKH"), cfg.clip_qkv)
    v_BTKH = clip_symmetric(project(h_BTD, w, "v", "BTD,DKH->BTKH"), cfg.clip_qkv)
    out_BTNH, cache = attention(q_BTNH, k_BTKH, v_BTKH, metadata, cache)
    y_BTD = checkpoint_name(x_BTD + project(out_BTNH, w, "o", "BTNH,NHD->BTD", act), "attn_sum")
    if not cfg.parallel:
        h_BTD = norm(y_BTD, w, "ffn_norm", cfg)
    return y_BTD + feed_forward(h_BTD, w, cfg, act), cache


class Llama(nn.Module):
    """Declares the parameters and runs the layers. All arithmetic is in functions.

    Attributes:
      cfg: sizes and architecture.
      method: positions of the tokens, and which keys a query sees.
      train: whether the method's training-time attention is used.
      backend: the implementation of the softmax.
      placement: how the work is split over devices.
      remat_policy: which activations of a layer the backward pass may keep (a jax.checkpoint_policies entry).

    """

    cfg: ModelConfig
    method: Method = Method()
    train: bool = False
    backend: AttentionBackend = Dense()
    placement: Placement = SingleDevice()
    remat_policy: Any = None

    def attention(self, length: int) -> Attention:
        """Return the method's attention for sequences of `length` tokens."""
        method = self.method
        return ((method.attention_train if self.train else None) or method.attention)(self.cfg, length)

    def init_cache(self, batch: int, size: int, length: int) -> Any:
        """Return the empty KV cache of all layers.

        Args:
          batch: number of rows.
          size: capacity in tokens of a row.
          length: of the whole sequence, as in `__call__`.

        """
        layer = self.attention(length).init_cache(self.cfg, batch, size)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (self.cfg.layers, *x.shape)), layer)

    @nn.compact
    def __call__(
        self,
        tokens_BT: jax.Array,
        positions: TokenPositions,
        length: int,
        cache: Any = None,
        key: jax.Array | None = None,
        rope: Rope | None = None,
    ) -> tuple[jax.Array, Any]:
        """Run the layers.

        Args:
          tokens_BT: token ids, int32.
          positions: their indices, documents and positions.
          length: of the whole sequence, prompt and continuation; chooses the frequencies, once a sequence.
          cache: KV cache of the tokens before these, from `init_cache` or an earlier call.
          key: random key for training (CLEX).
          rope: the method's, if already computed: a jitted caller then compiles once for many methods.

        Returns:
          hidden_BTD, to be passed to `logits` or `token_losses`, and the cache after these tokens (None without one).

        """
        cfg, method = self.cfg, self.method
        outer = {name: self.param(name, initializer(name, cfg), shape) for name, shape in global_shapes(cfg).items()}
        stacked = {name: (cfg.layers, *shape) for name, shape in layer_shapes(cfg).items()}
        layers = {name: self.param(name, initializer(name, cfg), shape) for name, shape in stacked.items()}
        method_params = {} if method.init_params is no_params else self.param("method", method.init_params, cfg)
        rope = rope or method.rope(cfg, length, method_params, key)
        if rope.position_BT is not None:
            position_BT = jnp.broadcast_to(rope.position_BT, positions.index_BT.shape)
            positions = positions.replace(position_BT=position_BT)
        attention = self.placement.attention(self.attention(length))
        head_N = np.arange(cfg.heads, dtype=np.int32)  # known to kernels before the run
        metadata = AttentionMetadata(positions, positions, rope, head_N, backend=self.backend)

        def body(carry, layer):
            (x_BTD, cache), (w, method_params, number) = carry, layer
            w = method.adapt(w, method_params)
            w = self.placement.weights({name: x.astype(cfg.dtype) for name, x in w.items()})  # cast, then gather
            layer_metadata, cache = metadata.replace(layer=number), with_layer(cache, number)
            x_BTD, cache = decoder_layer(x_BTD, w, cache, layer_metadata, attention, cfg, self.placement.act)
            return (x_BTD, with_layer(cache, None)), None

        x_BTD = self.placement.embed(outer["embed_VD"], tokens_BT, cfg.dtype)
        stack = (layers, method_params.get("layers", {}), jnp.arange(cfg.layers))
        (x_BTD, cache), _ = jax.lax.scan(jax.checkpoint(body, policy=self.remat_policy), (x_BTD, cache), stack)
        return norm(x_BTD, outer, "norm", cfg), cache


def unembedding(params: Weights) -> tuple[jax.Array, jax.Array | None]:
    """Return w_DV of the unembedding, and bias_V or None."""
    w = params.get("unembed_DV")
    return params["embed_VD"].T if w is None else w, params.get("unembed_bias_V")


def logits(params: Weights, hidden_BTD: jax.Array, placement: Placement = SingleDevice()) -> jax.Array:
    """Return logits_BTV in float32. Those of a long sequence may not fit: pass a few tokens of `Llama`'s output."""
    w_DV, bias_V = unembedding(params)
    w_DV = placement.unembed(w_DV.astype(hidden_BTD.dtype))
    logits_BTV = jnp.einsum("BTD,DV->BTV", hidden_BTD, w_DV, preferred_element_type=jnp.float32)
    return logits_BTV if bias_V is None else logits_BTV + bias_V


def token_losses(
    placement: Placement, params: Weights, hidden_BTD: jax.Array, target_BT: jax.Array, weight_BT: jax.Array,
    vocab_size: int | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """Compute the negative log-likelihood of each target without holding the logits of all tokens.

    Args:
      placement: the model's placement.
      params: the model's parameters.
      hidden_BTD: the model's output.
      target_BT: token ids, int32.
      weight_BT: weight of each target in the sum, float32.
      vocab_size: ids from here on are not the tokenizer's, and no hit; None: there are none.

    Returns:
      The sum of weight * nll, the only output with gradients; nll_BT in nats; hit_BT, whether greedy decoding gives
      the target: no other has as large a logit but ones with higher ids.

    """
    vocab_size = vocab_size or params["embed_VD"].shape[0]
    return placement.cross_entropy(hidden_BTD, *unembedding(params), target_BT, weight_BT, vocab_size)
