"""What comes next? Prompts go into the cache, in one pass or by chunks; then a token at a time, until all have ended.

Two programs a shape: `begin` and `go_on`. Rows of a call may have any lengths up to C, the size of their cache.
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

SINGLE_PASS_TOKENS = 2**17  # tokens of prompts that are read in one pass, where attention sees this call's keys alone
PREFILL_CHUNK = 2048  # of longer ones
MASKED_LOGIT = -1e30
# On NVIDIA GPUs a token's products then read a layer's weights where they lie among those of all layers. By default
# they are copied first, and come at 1.2 TB/s instead of 3.1 (H200, 7B). Other platforms take no notice.
CACHE_IN_PLACE = {
    "xla_gpu_enable_triton_gemm": False,
    "xla_gpu_enable_dynamic_slice_fusion": True,
    "xla_gpu_dot_merger_threshold_mb": 0,
}
RUNNING, EOS, STOP, LENGTH = range(4)  # why a row has ended


class StopRules(struct.PyTreeNode):
    """When a row ends.

    Attributes:
      end: id that ends a text; -1: none.
      words: ids from here on are not the tokenizer's, and never said.
      stop_BS: ids that end an answer, -1: none.
      least_B: before so many tokens, nothing ends it.
      most_B: tokens of an answer.

    """

    eos_id: jax.Array
    vocab_size: jax.Array
    stop_ids_BS: jax.Array
    min_new_tokens_B: jax.Array
    max_new_tokens_B: jax.Array


class DecodeState(struct.PyTreeNode):
    """Rows that are being continued.

    Attributes:
      memory: what the model has read.
      tokens_BC: prompt, answer, and what the method inserts.
      index_B: of the newest token, which has not been read yet.
      said_B: tokens of the answer so far.
      why_B: RUNNING, or why it has ended.
      logprob_B: of what was said, its end included.

    """

    cache: Any
    tokens_BC: jax.Array
    index_B: jax.Array
    num_generated_B: jax.Array
    finish_reason_B: jax.Array
    logprob_B: jax.Array


def prefill_chunk(rows: int, size: int) -> int:
    """-> how many tokens of each row are read in one pass: all, unless they are too many or devices share a row."""
    shared = jax.sharding.get_abstract_mesh().shape.get("seq", 1) > 1
    return min(PREFILL_CHUNK, size) if shared or rows * size > SINGLE_PASS_TOKENS else size


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(4,))
def prefill(
    model: Llama, length: int, params: Any, rope: Rope, cache: Any, tokens_BC: jax.Array, length_B: jax.Array,
    rules: StopRules,
) -> DecodeState:  # fmt: skip
    """-> rows whose prompts are read, with the first token of each answer. `length` chooses the attention."""
    (B, C), P = tokens_BC.shape, prefill_chunk(*tokens_BC.shape)

    def read(where, tokens_BP, cache):
        """-> (memory, last_BD): hidden states of the last token of each prompt, zeros if it is not here."""
        hidden_BPD, cache = model.apply({"params": params}, tokens_BP, where, length, cache, rope=rope)
        is_last_BP1 = (where.index_BT == length_B[:, None] - 1)[..., None]
        return cache, row_layout(jnp.sum(jnp.where(is_last_BP1, hidden_BPD, 0), axis=1), model)

    def read_chunk(n, carry):
        cache, last_BD = carry
        index_BP = jnp.broadcast_to(n * P + jnp.arange(P, dtype=jnp.int32), (B, P))
        tokens_BP = jax.lax.dynamic_slice_in_dim(tokens_BC, n * P, P, axis=1)
        cache, more_BD = read(TokenPositions.at(index_BP, real_BT=index_BP < length_B[:, None]), tokens_BP, cache)
        return cache, last_BD + more_BD

    if P == C:
        real_BC = jnp.arange(C, dtype=jnp.int32) < length_B[:, None]
        cache, last_BD = read(TokenPositions.whole(B, C, real_BT=real_BC), tokens_BC, cache)
    else:
        last_BD = row_layout(jnp.zeros((B, model.cfg.dim), model.cfg.dtype), model)
        cache, last_BD = jax.lax.fori_loop(0, -(-jnp.max(length_B) // P), read_chunk, (cache, last_BD))
    none_B = jnp.zeros_like(length_B)
    rows = DecodeState(cache, tokens_BC, length_B - 1, none_B, none_B, none_B.astype(jnp.float32))
    return sample_step(model, params, rows, last_BD[:, None], rules)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(4,), compiler_options=CACHE_IN_PLACE)
def decode(
    model: Llama, length: int, params: Any, rope: Rope, rows: DecodeState, rules: StopRules, steps: jax.Array
) -> DecodeState:
    """At most `steps` tokens more in each row; fewer if all end before that."""

    def step(carry):
        n, rows = carry
        token_B1 = jnp.sum(jnp.where(at_index(rows), rows.tokens_BC, 0), axis=1, keepdims=True)
        where = TokenPositions.at(rows.index_B[:, None], real_BT=(rows.finish_reason_B == RUNNING)[:, None])
        hidden_B1D, cache = model.apply({"params": params}, token_B1, where, length, rows.cache, rope=rope)
        return n + 1, sample_step(model, params, rows.replace(cache=cache), hidden_B1D, rules)

    def unfinished(carry):
        n, rows = carry
        return (n < steps) & jnp.any(rows.finish_reason_B == RUNNING)

    return jax.lax.while_loop(unfinished, step, (jnp.zeros((), jnp.int32), rows))[1]


def sample_step(model: Llama, params: Any, rows: DecodeState, hidden_B1D: jax.Array, rules: StopRules) -> DecodeState:
    """Every running row says its next token, or ends; where the method inserts one, it says that."""
    # A single row makes XLA cast the unembedding to float32 for every token; two alike do not.
    twice = jnp.broadcast_to(hidden_B1D, (hidden_B1D.shape[0], 2, hidden_B1D.shape[2]))
    x_BV = row_layout(logits(params, twice, model.placement)[:, 0], model)
    id_V = jnp.arange(x_BV.shape[1])
    early_B1 = (rows.num_generated_B < rules.min_new_tokens_B)[:, None]
    x_BV = jnp.where((is_stop(id_V[None], rules) & early_B1) | (id_V >= rules.vocab_size), MASKED_LOGIT, x_BV)
    choice_B = jnp.argmax(x_BV, axis=-1).astype(jnp.int32)
    logprob_B = jnp.max(x_BV, axis=-1) - jax.nn.logsumexp(x_BV, axis=-1)
    index_B, running_B = rows.index_B + 1, rows.finish_reason_B == RUNNING
    inserted_B = running_B & is_inserted(model, index_B)
    speaks_B = running_B & ~inserted_B
    ends_B = speaks_B & is_stop(choice_B[:, None], rules)[:, 0]
    grows_B = inserted_B | (speaks_B & ~ends_B)
    said_B = rows.num_generated_B + (speaks_B & ~ends_B).astype(jnp.int32)
    why_B = jnp.where(ends_B, jnp.where(choice_B == rules.eos_id, EOS, STOP), rows.finish_reason_B)
    why_B = jnp.where((why_B == RUNNING) & (said_B >= rules.max_new_tokens_B), LENGTH, why_B)
    token_B = jnp.where(inserted_B, model.cfg.vocab - 1, choice_B)
    rows = rows.replace(
        index_B=jnp.where(grows_B, index_B, rows.index_B), num_generated_B=said_B, finish_reason_B=why_B
    )
    here_BC = at_index(rows) & grows_B[:, None]
    return rows.replace(
        tokens_BC=jnp.where(here_BC, token_B[:, None], rows.tokens_BC),
        logprob_B=rows.logprob_B + jnp.where(speaks_B, logprob_B, 0),
    )


def is_stop(ids: jax.Array, rules: StopRules) -> jax.Array:
    """-> whether each of these ids, given for each row or once for all, ends its row."""
    return (ids == rules.eos_id) | jnp.any(rules.stop_ids_BS[:, :, None] == ids[:, None], axis=1)


def row_layout(x: jax.Array, model: Llama) -> jax.Array:
    """On a mesh: every device has all of its rows."""
    return x if model.placement.act is None else jax.reshard(x, jax.P(model.placement.act[0], *[None] * (x.ndim - 1)))


def at_index(rows: DecodeState) -> jax.Array:
    """-> where in tokens_BC the newest token of each row lies."""
    return jnp.arange(rows.tokens_BC.shape[1]) == rows.index_B[:, None]


def is_inserted(model: Llama, index_B: jax.Array) -> jax.Array:
    insert = model.method.insert_tokens
    return jnp.zeros_like(index_B, bool) if insert is None else insert.is_inserted(index_B)
