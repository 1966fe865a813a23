"""Rematerialisation policies: which activations the backward pass finds saved."""

from typing import Any, Literal

import jax

Remat = Literal["full", "attention", "qkv", "qkv_up", "most", "gate_up", "dots", "offload", "none"]  # see launch.REMAT
POLICIES = jax.checkpoint_policies
ATTENTION = ("attn_out", "attn_lse")  # with these, attention is never computed twice
QKV = (*ATTENTION, "q", "k", "v", "attn_sum")
REMAT: dict[Remat, Any] = {  # what the backward pass finds of a layer's forward pass; the rest it computes again
    "full": None,  # nothing but the layer's input
    "attention": POLICIES.save_only_these_names(*ATTENTION),
    "qkv": POLICIES.save_only_these_names(*QKV),  # all but the feed-forward part
    "qkv_up": POLICIES.save_only_these_names(*QKV, "up"),
    "most": POLICIES.save_only_these_names(*QKV, "gate", "up"),  # all but what is no product
    "gate_up": POLICIES.save_only_these_names(*ATTENTION, "gate", "up"),
    "dots": POLICIES.dots_with_no_batch_dims_saveable,  # products with weights
    "offload": POLICIES.offload_dot_with_no_batch_dims("device", "pinned_host"),  # the same, in the host's memory
    "none": POLICIES.everything_saveable,
}
