"""Per-token log-likelihoods and logits of batches: `Llama.apply` as in training, compiled once a shape.

Letters as in llama.py; S tokens of a row with those that the method inserts.
"""

import dataclasses
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from longjax import sharding
from longjax.attention.core import Attention, TokenPositions
from longjax.attention.rope import Rope, stack_ropes
from longjax.model.llama import Llama, logits, token_losses


@partial(jax.jit, static_argnums=(0, 1, 2))
def score_batch(
    model: Llama, length: int, vocab_size: int | None, params: Any, rope: Rope, tokens_BT: jax.Array, next_BT: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Scores each `next` token given the tokens up to it.

    Args:
      model: static.
      length: of the sequences; chooses the attention; static.
      vocab_size: ids from here on are not the tokenizer's, and never greedy; None: there are none; static.
      params: of the model.
      rope: frequencies of each row.
      tokens_BT: int32. Rows may end in padding, which no token before it sees.
      next_BT: int32, the tokens that are scored.

    Returns:
      nll_BT, -log p in nats, float32; hit_BT, whether greedy decoding gives the token.

    """
    ones_BT = jnp.ones_like(next_BT, jnp.float32)
    hidden_BTD = _hidden(model, length, params, rope, tokens_BT)
    return token_losses(model.placement, params, hidden_BTD, next_BT, ones_BT, vocab_size)[1:]


@partial(jax.jit, static_argnums=(0, 1))
def batch_logits(model: Llama, length: int, params: Any, rope: Rope, tokens_BT: jax.Array) -> jax.Array:
    """Returns logits_BTV in float32 of the token after each. Arguments as of `score_batch`."""
    return logits(params, _hidden(model, length, params, rope, tokens_BT), model.placement)


def _hidden(model: Llama, length: int, params: Any, rope: Rope, tokens_BT: jax.Array) -> jax.Array:
    positions = TokenPositions.whole(*tokens_BT.shape)
    return model.apply({"params": params}, tokens_BT, positions, length, rope=rope)[0]


@dataclasses.dataclass(frozen=True, eq=False)
class RopesByLength:
    """RoPE frequencies and attention of a method by the length of sequences, computed once a length."""

    model: Llama
    params: Any

    @cached_property
    def ropes(self) -> dict[int, Rope]:
        return {}

    @cached_property
    def first_lengths(self) -> dict[Attention, int]:
        return {}

    def rope(self, length_B: np.ndarray) -> Rope:
        """Returns the frequencies of a batch: each row has those of its own length."""
        method_params = self.params.get("method", {})
        for length in map(int, length_B):
            if length not in self.ropes:
                self.ropes[length] = jax.tree.map(
                    np.asarray, self.model.method.rope(self.model.cfg, length, method_params, None)
                )
        return stack_ropes([self.ropes[int(length)] for length in length_B])

    def representative(self, length: int) -> int:
        """Returns the first length seen that has the same attention, so that equal programs are compiled once."""
        return self.first_lengths.setdefault(self.model.attention(length), length)


@dataclasses.dataclass(frozen=True, eq=False)
class Scorer:
    """Scores batches of the host, on one device or a mesh, which rows and tokens are split over.

    A row's scores do not depend on the other rows or on padding. Inserted tokens of the method are put in, and left
    out of the results.

    Attributes:
      model: with train=False.
      params: on the device, or spread over the mesh.
      mesh: None: one device. Else it must be current (jax.set_mesh).
      vocab_size: as of `score_batch`.

    """

    model: Llama
    params: Any
    mesh: jax.sharding.Mesh | None = None
    vocab_size: int | None = None

    @cached_property
    def by_length(self) -> RopesByLength:
        return RopesByLength(self.model, self.params)

    def __call__(
        self, tokens_BT: np.ndarray, length_B: np.ndarray, rope_length_B: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores each token given those before it in its row.

        Args:
          tokens_BT: int32, rows padded on the right.
          length_B: tokens of each row without padding.
          rope_length_B: lengths that choose the frequencies; None: length_B.

        Returns:
          nll_BT, float32, and hit_BT as of `score_batch`; 0 and False at the first token and in padding.

        """
        rope_length_B = length_B if rope_length_B is None else rope_length_B
        nll_BT, hit_BT = np.zeros(tokens_BT.shape, np.float32), np.zeros(tokens_BT.shape, bool)
        representative_B = np.array([self.by_length.representative(int(length)) for length in length_B])
        for length in np.unique(representative_B):
            rows = np.flatnonzero(representative_B == length)
            nll_BT[rows], hit_BT[rows] = self.score_rows(tokens_BT[rows], rope_length_B[rows], int(length))
        padding_BT = np.arange(tokens_BT.shape[1]) >= length_B[:, None]
        return np.where(padding_BT, 0, nll_BT), hit_BT & ~padding_BT

    def score_rows(
        self, tokens_BT: np.ndarray, rope_length_B: np.ndarray, length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores rows that share one attention, that of sequences of `length` tokens."""
        (B, T), (tokens_BS, real_BS) = tokens_BT.shape, self.with_inserted(tokens_BT)
        S = tokens_BS.shape[1]
        tokens_BS, rope = self.pad_for_mesh(tokens_BS, rope_length_B)
        batch = self.placed({"tokens_BT": tokens_BS, "next_BT": np.roll(tokens_BS, -1, axis=1)})
        scores = score_batch(self.model, length, self.vocab_size, self.params, rope, **batch)
        nll_BT, hit_BT = (shift_right(sharding.gather_to_host(x)[:B, :S])[real_BS].reshape(B, T) for x in scores)
        return nll_BT, hit_BT

    def logits(self, tokens_BT: np.ndarray, length: int) -> np.ndarray:
        """Computes the logits of the token after each.

        Args:
          tokens_BT: int32, rows without padding.
          length: of the whole sequences, continuations included; chooses frequencies and attention.

        Returns:
          logits_BTV, float32.

        """
        B = len(tokens_BT)
        tokens_BS, real_BS = self.with_inserted(
            np.pad(tokens_BT, [(0, 0), (0, 1)])
        )  # one more: what is before it counts
        before_T = np.flatnonzero(real_BS[0])[1:] - 1  # where the token after t is predicted: perhaps an inserted token
        padded_BS, rope = self.pad_for_mesh(tokens_BS[:, :-1], np.full(B, length))
        batch, representative = self.placed({"tokens_BT": padded_BS}), self.by_length.representative(length)
        logits_BSV = batch_logits(self.model, representative, self.params, rope, **batch)
        return sharding.gather_to_host(logits_BSV)[:B, before_T]

    def with_inserted(self, tokens_BT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns tokens_BS with those that the method inserts, and real_BS, which of them were there before."""
        insert = self.model.method.insert_tokens
        if insert is None:
            return tokens_BT, np.ones(tokens_BT.shape, bool)
        tokens_BS, real_BS = insert(tokens_BT, self.model.cfg.vocab - 1)
        return tokens_BS.astype(np.int32), real_BS

    def pad_for_mesh(self, tokens_BT: np.ndarray, rope_length_B: np.ndarray) -> tuple[np.ndarray, Rope]:
        """Returns rows and their frequencies; on a mesh, as many rows and tokens more as it takes to split them."""
        if self.mesh:
            row_multiple = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
            rows = np.arange(-(-len(tokens_BT) // row_multiple) * row_multiple) % len(tokens_BT)
            tokens_BT = np.pad(tokens_BT[rows], [(0, 0), (0, -tokens_BT.shape[1] % self.mesh.shape["seq"])])
            rope_length_B = rope_length_B[rows]
            sharding.check_divisible(self.model.cfg, tokens_BT.shape[0], tokens_BT.shape[1], self.mesh)
        return tokens_BT, self.by_length.rope(rope_length_B)

    def placed(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Returns the arrays on the devices that compute with them."""
        return dict(sharding.place_batch(batch, self.mesh)) if self.mesh else dict(batch)


def shift_right(x_BT: np.ndarray) -> np.ndarray:
    """Returns scores at the tokens that they are of, from scores at the tokens before; the first token has 0."""
    return np.pad(x_BT[:, :-1], [(0, 0), (1, 0)])
