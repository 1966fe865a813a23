"""Greedy decoding: prompts fill the KV cache, in one pass or by chunks; then a token at a time, until all rows end.

One prefill program and one decode program per shape. Rows may have any lengths up to C, the size of their cache.
Letters as in llama.py; C tokens of a row at most, P of a chunk, S ids that end a row.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from longjax.attention.core import TokenPositions
from longjax.attention.rope import Rope
from longjax.model.llama import Llama, logits

SINGLE_PASS_TOKENS = 2**17  # prompts up to this many tokens are one pass, whose attention reads its own keys, no cache
PREFILL_CHUNK = 2048  # tokens of a row in a chunk of longer ones
MASKED_LOGIT = -1e30
# On NVIDIA GPUs the products of decoding then read a layer's weights in place, within the stack of all layers. By
# default they are copied first, and arrive at 1.2 TB/s instead of 3.1 (H200, 7B). Other platforms ignore the options.
WEIGHTS_IN_PLACE = {
    "xla_gpu_enable_triton_gemm": False,
    "xla_gpu_enable_dynamic_slice_fusion": True,
    "xla_gpu_dot_merger_threshold_mb": 0,
}
RUNNING, EOS, STOP, LENGTH = range(4)  # finish reasons of a row


class StopRules(struct.PyTreeNode):
    """When rows end, and which ids they may generate.

    Attributes:
      eos_ids_E: ids that end a generation; -1: none.
      vocab_size: ids from here on are not the tokenizer's, and never generated.
      stop_ids_BS: further ids that end a row; -1: none.
      min_new_tokens_B: no id ends a row before so many tokens.
      max_new_tokens_B: a row ends after so many tokens.

    """

    eos_ids_E: jax.Array
    vocab_size: jax.Array
    stop_ids_BS: jax.Array
    min_new_tokens_B: jax.Array
    max_new_tokens_B: jax.Array


class DecodeState(struct.PyTreeNode):
    """Rows that are being continued.

    Attributes:
      cache: keys and values of all tokens but the newest.
      tokens_BC: prompts and continuations, with the tokens that the method inserts.
      index_B: index of the newest token, which the model has not read yet.
      num_generated_B: tokens of the continuation so far.
      finish_reason_B: RUNNING, or why the row has ended.
      logprob_B: sum of log p over the generated tokens, that which ended the row included.

    """

    cache: Any
    tokens_BC: jax.Array
    index_B: jax.Array
    num_generated_B: jax.Array
    finish_reason_B: jax.Array
    logprob_B: jax.Array


def prefill_chunk(rows: int, size: int) -> int:
    """Returns how many tokens of each row one pass reads: all, unless they are too many or devices share a row."""
    shared = jax.sharding.get_abstract_mesh().shape.get("seq", 1) > 1
    return min(PREFILL_CHUNK, size) if shared or rows * size > SINGLE_PASS_TOKENS else size


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(4,))
def prefill(
    model: Llama, length: int, params: Any, rope: Rope, cache: Any, tokens_BC: jax.Array, length_B: jax.Array,
    rules: StopRules,
) -> DecodeState:  # fmt: skip
    """Reads prompts and generates the first token of each row.

    Args:
      model: for inference; static.
      length: of the sequences, continuations included; chooses the attention; static.
      params: of the model.
      rope: frequencies of each row.
      cache: empty, for C tokens a row; donated.
      tokens_BC: prompts, int32, padded on the right, with the tokens that the method inserts.
      length_B: tokens of each prompt.
      rules: when rows end.

    """
    (B, C), P = tokens_BC.shape, prefill_chunk(*tokens_BC.shape)

    def read(positions, tokens_BP, cache):
        """-> (cache, last_BD): hidden states of the last token of each prompt, zeros if it is in another chunk."""
        hidden_BPD, cache = model.apply({"params": params}, tokens_BP, positions, length, cache, rope=rope)
        is_last_BP1 = (positions.index_BT == length_B[:, None] - 1)[..., None]
        return cache, row_layout(jnp.sum(jnp.where(is_last_BP1, hidden_BPD, 0), axis=1), model)

    def read_chunk(n, carry):
        cache, last_BD = carry
        index_BP = jnp.broadcast_to(n * P + jnp.arange(P, dtype=jnp.int32), (B, P))
        tokens_BP = jax.lax.dynamic_slice_in_dim(tokens_BC, n * P, P, axis=1)
        positions = TokenPositions.at(index_BP, real_BT=index_BP < length_B[:, None])
        cache, chunk_BD = read(positions, tokens_BP, cache)
        return cache, last_BD + chunk_BD

    if P == C:
        real_BC = jnp.arange(C, dtype=jnp.int32) < length_B[:, None]
        cache, last_BD = read(TokenPositions.whole(B, C, real_BT=real_BC), tokens_BC, cache)
    else:
        last_BD = row_layout(jnp.zeros((B, model.cfg.dim), model.cfg.dtype), model)
        cache, last_BD = jax.lax.fori_loop(0, -(-jnp.max(length_B) // P), read_chunk, (cache, last_BD))
    zeros_B = jnp.zeros_like(length_B)
    state = DecodeState(cache, tokens_BC, length_B - 1, zeros_B, zeros_B, zeros_B.astype(jnp.float32))
    return sample_step(model, params, state, last_BD[:, None], rules)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(4,), compiler_options=WEIGHTS_IN_PLACE)
def decode(
    model: Llama, length: int, params: Any, rope: Rope, state: DecodeState, rules: StopRules, steps: jax.Array
) -> DecodeState:
    """Generates at most `steps` more tokens in each row; fewer if all rows end before. `state` is donated."""

    def step(carry):
        n, state = carry
        token_B1 = jnp.sum(jnp.where(newest_token(state), state.tokens_BC, 0), axis=1, keepdims=True)
        running_B1 = (state.finish_reason_B == RUNNING)[:, None]
        positions = TokenPositions.at(state.index_B[:, None], real_BT=running_B1)
        hidden_B1D, cache = model.apply({"params": params}, token_B1, positions, length, state.cache, rope=rope)
        return n + 1, sample_step(model, params, state.replace(cache=cache), hidden_B1D, rules)

    def unfinished(carry):
        n, state = carry
        return (n < steps) & jnp.any(state.finish_reason_B == RUNNING)

    return jax.lax.while_loop(unfinished, step, (jnp.zeros((), jnp.int32), state))[1]


def sample_step(model: Llama, params: Any, state: DecodeState, hidden_B1D: jax.Array, rules: StopRules) -> DecodeState:
    """Appends the likeliest token to every running row, or ends it; where the method inserts a token, appends that."""
    # A single row makes XLA cast the unembedding to float32 for every token; two alike do not.
    twice_B2D = jnp.broadcast_to(hidden_B1D, (hidden_B1D.shape[0], 2, hidden_B1D.shape[2]))
    logits_BV = row_layout(logits(params, twice_B2D, model.placement)[:, 0], model)
    id_V = jnp.arange(logits_BV.shape[1])
    early_B1 = (state.num_generated_B < rules.min_new_tokens_B)[:, None]
    forbidden_BV = (is_stop(id_V[None], rules) & early_B1) | (id_V >= rules.vocab_size)
    logits_BV = jnp.where(forbidden_BV, MASKED_LOGIT, logits_BV)
    choice_B = jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    logprob_B = jnp.max(logits_BV, axis=-1) - jax.nn.logsumexp(logits_BV, axis=-1)
    index_B, running_B = state.index_B + 1, state.finish_reason_B == RUNNING
    inserted_B = running_B & is_inserted(model, index_B)
    samples_B = running_B & ~inserted_B
    ends_B = samples_B & is_stop(choice_B[:, None], rules)[:, 0]
    grows_B = inserted_B | (samples_B & ~ends_B)
    num_generated_B = state.num_generated_B + (samples_B & ~ends_B).astype(jnp.int32)
    is_eos_B = jnp.any(choice_B[:, None] == rules.eos_ids_E, axis=1)
    reason_B = jnp.where(ends_B, jnp.where(is_eos_B, EOS, STOP), state.finish_reason_B)
    reason_B = jnp.where((reason_B == RUNNING) & (num_generated_B >= rules.max_new_tokens_B), LENGTH, reason_B)
    token_B = jnp.where(inserted_B, model.cfg.vocab - 1, choice_B)
    state = state.replace(
        index_B=jnp.where(grows_B, index_B, state.index_B), num_generated_B=num_generated_B, finish_reason_B=reason_B
    )
    appended_BC = newest_token(state) & grows_B[:, None]
    return state.replace(
        tokens_BC=jnp.where(appended_BC, token_B[:, None], state.tokens_BC),
        logprob_B=state.logprob_B + jnp.where(samples_B, logprob_B, 0),
    )


def is_stop(ids: jax.Array, rules: StopRules) -> jax.Array:
    """Returns whether each id ends its row. `ids` have axes [B, n], or [1, n] for the same ids in all rows."""
    is_eos = jnp.any(rules.eos_ids_E[:, None, None] == ids, axis=0)
    return is_eos | jnp.any(rules.stop_ids_BS[:, :, None] == ids[:, None], axis=1)


def row_layout(x: jax.Array, model: Llama) -> jax.Array:
    """Returns `x` with all of a row on each device that has the row, if the model is on a mesh."""
    return x if model.placement.act is None else jax.reshard(x, jax.P(model.placement.act[0], *[None] * (x.ndim - 1)))


def newest_token(state: DecodeState) -> jax.Array:
    """Returns booleans of the shape of tokens_BC, true at the newest token of each row."""
    return jnp.arange(state.tokens_BC.shape[1]) == state.index_B[:, None]


def is_inserted(model: Llama, index_B: jax.Array) -> jax.Array:
    """Returns whether the token at each index is one that the method inserts."""
    insert = model.method.insert_tokens
    return jnp.zeros_like(index_B, bool) if insert is None else insert.is_inserted(index_B)
