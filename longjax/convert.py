"""Hugging Face weights by our names and back. NumPy only; families are tables, not code."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from longjax.config import ModelConfig
from longjax.llama import layer_shapes, outer_shapes


class Entry(NamedTuple):
    """Where one of our tensors is in theirs.

    Attributes:
      theirs: their name; {} is the layer.
      axes: their axes. Letters written together are one axis of theirs: "NH D" is [N * H, D].
      part: which of `parts` equal runs of rows, where several of ours are one tensor of theirs (MPT's Wqkv).

    """

    theirs: str
    axes: str
    part: int = 0
    parts: int = 1


LLAMA = {
    "embed_VD": Entry("model.embed_tokens.weight", "V D"),
    "norm_D": Entry("model.norm.weight", "D"),
    "unembed_DV": Entry("lm_head.weight", "V D"),
    "attn_norm_D": Entry("model.layers.{}.input_layernorm.weight", "D"),
    "ffn_norm_D": Entry("model.layers.{}.post_attention_layernorm.weight", "D"),
    "q_DNH": Entry("model.layers.{}.self_attn.q_proj.weight", "NH D"),
    "k_DKH": Entry("model.layers.{}.self_attn.k_proj.weight", "KH D"),
    "v_DKH": Entry("model.layers.{}.self_attn.v_proj.weight", "KH D"),
    "o_NHD": Entry("model.layers.{}.self_attn.o_proj.weight", "D NH"),
    "gate_DF": Entry("model.layers.{}.mlp.gate_proj.weight", "F D"),
    "up_DF": Entry("model.layers.{}.mlp.up_proj.weight", "F D"),
    "down_FD": Entry("model.layers.{}.mlp.down_proj.weight", "D F"),
    "q_bias_NH": Entry("model.layers.{}.self_attn.q_proj.bias", "NH"),
    "k_bias_KH": Entry("model.layers.{}.self_attn.k_proj.bias", "KH"),
    "v_bias_KH": Entry("model.layers.{}.self_attn.v_proj.bias", "KH"),
    "o_bias_D": Entry("model.layers.{}.self_attn.o_proj.bias", "D"),
}
PHI = LLAMA | {
    "norm_D": Entry("model.final_layernorm.weight", "D"),
    "norm_bias_D": Entry("model.final_layernorm.bias", "D"),
    "unembed_bias_V": Entry("lm_head.bias", "V"),
    "attn_norm_bias_D": Entry("model.layers.{}.input_layernorm.bias", "D"),
    "o_NHD": Entry("model.layers.{}.self_attn.dense.weight", "D NH"),
    "o_bias_D": Entry("model.layers.{}.self_attn.dense.bias", "D"),
    "up_DF": Entry("model.layers.{}.mlp.fc1.weight", "F D"),
    "up_bias_F": Entry("model.layers.{}.mlp.fc1.bias", "F"),
    "down_FD": Entry("model.layers.{}.mlp.fc2.weight", "D F"),
    "down_bias_D": Entry("model.layers.{}.mlp.fc2.bias", "D"),
}


def table(cfg: ModelConfig) -> dict[str, Entry]:
    return PHI if cfg.parallel else LLAMA


def sizes(cfg: ModelConfig) -> dict[str, int]:
    return {"V": cfg.vocab, "D": cfg.dim, "N": cfg.heads, "K": cfg.kv_heads, "H": cfg.head_dim, "F": cfg.ffn}


def to_ours(x: np.ndarray, name: str, theirs: str, cfg: ModelConfig) -> np.ndarray:
    """One tensor from their axes to those in our name."""
    ours, flat, size = name.rsplit("_", 1)[1], theirs.replace(" ", ""), sizes(cfg)
    return np.asarray(x).reshape([size[a] for a in flat]).transpose([flat.index(a) for a in ours])


def to_theirs(x: np.ndarray, name: str, theirs: str, cfg: ModelConfig) -> np.ndarray:
    ours, flat, size = name.rsplit("_", 1)[1], theirs.replace(" ", ""), sizes(cfg)
    shape = [int(np.prod([size[a] for a in group])) for group in theirs.split()]
    return np.ascontiguousarray(np.asarray(x).transpose([ours.index(a) for a in flat])).reshape(shape)


def from_hf(state: Mapping[str, np.ndarray], cfg: ModelConfig) -> dict[str, np.ndarray]:
    """-> params, without the method's own. `state` holds Hugging Face's tensors by name.

    Raises ValueError naming the tensor that is missing or has another shape.
    """
    params = {}
    for name in outer_shapes(cfg):
        params[name] = _one(state, name, table(cfg)[name], None, cfg)
    for name in layer_shapes(cfg):
        params[name] = np.stack([_one(state, name, table(cfg)[name], i, cfg) for i in range(cfg.layers)])
    return params


def _one(state, name, entry, layer, cfg):
    their_name, axes = entry.theirs.format(layer), entry.axes
    if their_name not in state:
        raise ValueError(f"the checkpoint has no tensor {their_name}")
    try:
        return to_ours(state[their_name], name, axes, cfg)
    except ValueError as error:
        raise ValueError(f"{their_name} has shape {np.shape(state[their_name])}, not that of {cfg}") from error


def to_hf(params: Mapping[str, np.ndarray], cfg: ModelConfig) -> dict[str, np.ndarray]:
    """-> Hugging Face's tensors by name; the inverse of `from_hf`."""
    state = {}
    for name in outer_shapes(cfg):
        entry = table(cfg)[name]
        state[entry.theirs] = to_theirs(params[name], name, entry.axes, cfg)
    for name in layer_shapes(cfg):
        entry = table(cfg)[name]
        for i in range(cfg.layers):
            state[entry.theirs.format(i)] = to_theirs(params[name][i], name, entry.axes, cfg)
    return state


def meta_to_hf(w: np.ndarray, heads: int, rotary_dim: int | None = None) -> np.ndarray:
    """Rows of a q or k projection [heads * width, ...] from Meta's order to Hugging Face's.

    Meta turns channels (2r, 2r + 1) of a head together, Hugging Face (r, r + R). Scores do not change.
    """
    return _reorder_heads(w, heads, rotary_dim, (-1, 2))


def hf_to_meta(w: np.ndarray, heads: int, rotary_dim: int | None = None) -> np.ndarray:
    """The inverse of `meta_to_hf`."""
    return _reorder_heads(w, heads, rotary_dim, (2, -1))


def _reorder_heads(w, heads, rotary_dim, pairing):
    """Transposes the first `rotary_dim` rows of each head, seen as a `pairing` matrix."""
    w = np.asarray(w)
    by_head = w.reshape(heads, -1, *w.shape[1:]).copy()
    turned = by_head[:, : rotary_dim or by_head.shape[1]]
    turned[:] = turned.reshape(heads, *pairing, *w.shape[1:]).swapaxes(1, 2).reshape(turned.shape)
    return by_head.reshape(w.shape)
