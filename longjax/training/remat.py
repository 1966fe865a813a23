"""Rematerialization policies: which activations of a layer are saved for the backward pass."""

from typing import Any, Literal

import jax

Remat = Literal["full", "attention", "qkv", "qkv_up", "most", "gate_up", "dots", "offload", "none"]
POLICIES = jax.checkpoint_policies
ATTENTION = ("attn_out", "attn_lse")  # with these, attention is not computed again
QKV = (*ATTENTION, "q", "k", "v", "attn_sum")
REMAT: dict[Remat, Any] = {  # what is saved of a layer's forward pass; the backward pass computes the rest again
    "full": None,  # nothing but the layer's input
    "attention": POLICIES.save_only_these_names(*ATTENTION),
    "qkv": POLICIES.save_only_these_names(*QKV),  # all but the feed-forward part
    "qkv_up": POLICIES.save_only_these_names(*QKV, "up"),
    "most": POLICIES.save_only_these_names(*QKV, "gate", "up"),  # all matrix products
    "gate_up": POLICIES.save_only_these_names(*ATTENTION, "gate", "up"),
    "dots": POLICIES.dots_with_no_batch_dims_saveable,  # all products with weights
    "offload": POLICIES.offload_dot_with_no_batch_dims("device", "pinned_host"),  # the same, in host memory
    "none": POLICIES.everything_saveable,
}
