"""How likely are these tokens? `Llama.apply` as in training, compiled once a shape. Letters as in llama.py."""

import dataclasses
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from longjax import sharding
from longjax.attention.core import Attention, TokenPositions
from longjax.attention.rope import Rope, stack_ropes
from longjax.model.llama import Llama, token_losses


@partial(jax.jit, static_argnums=(0, 1))
def score_batch(
    model: Llama, length: int, params: Any, rope: Rope, tokens_BT: jax.Array, next_BT: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """-> nll_BT, hit_BT: -log p of each `next` token given the tokens up to it, and whether it was the likeliest.

    `length` chooses the attention; what comes after a row's own end is padding, which nothing before it sees.
    """
    hidden_BTD, _ = model.apply(
        {"params": params}, tokens_BT, TokenPositions.whole(*tokens_BT.shape), length, rope=rope
    )
    ones_BT = jnp.ones_like(next_BT, jnp.float32)
    return token_losses(model.placement, params, hidden_BTD, next_BT, ones_BT)[1:]


@dataclasses.dataclass(frozen=True, eq=False)
class RopesByLength:
    """What the method says about sequences of a length, answers included; asked once a length."""

    model: Llama
    params: Any

    @cached_property
    def ropes(self) -> dict[int, Rope]:
        return {}

    @cached_property
    def first(self) -> dict[Attention, int]:
        return {}

    def rope(self, length_B: np.ndarray) -> Rope:
        """-> of a batch: every row has the frequencies of its own true length, whatever its neighbours."""
        method_params = self.params.get("method", {})
        for length in map(int, length_B):
            if length not in self.ropes:
                self.ropes[length] = jax.tree.map(
                    np.asarray, self.model.method.rope(self.model.cfg, length, method_params, None)
                )
        return stack_ropes([self.ropes[int(length)] for length in length_B])

    def like(self, length: int) -> int:
        """-> the first length asked for that has the same attention, so that equal programs are compiled once."""
        return self.first.setdefault(self.model.attention(length), length)


@dataclasses.dataclass(frozen=True, eq=False)
class Scorer:
    """`score_batch` on the host, as evaluators ask it; on a mesh, rows and tokens are split over it.

    A row's score never depends on its neighbours or on padding.
    """

    model: Llama
    params: Any
    mesh: jax.sharding.Mesh | None = None

    @cached_property
    def by_length(self) -> RopesByLength:
        return RopesByLength(self.model, self.params)

    def __call__(
        self, tokens_BT: np.ndarray, length_B: np.ndarray, used_B: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """-> nll_BT, hit_BT; 0 and False at the first token and beyond a row's length.

        Frequencies are those of the length, or of `used_B`.
        """
        used_B = length_B if used_B is None else used_B
        nll_BT, hit_BT = np.zeros(tokens_BT.shape, np.float32), np.zeros(tokens_BT.shape, bool)
        like_B = np.array([self.by_length.like(int(length)) for length in length_B])
        for like in np.unique(like_B):
            rows = np.flatnonzero(like_B == like)
            nll_BT[rows], hit_BT[rows] = self.score_batch(tokens_BT[rows], used_B[rows], int(like))
        beyond_BT = np.arange(tokens_BT.shape[1]) >= length_B[:, None]
        return np.where(beyond_BT, 0, nll_BT), hit_BT & ~beyond_BT

    def score_batch(self, tokens_BT: np.ndarray, used_B: np.ndarray, like: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of one attention, with the tokens that the method inserts."""
        B, T = tokens_BT.shape
        longer_BS, real_BS = tokens_BT, np.ones((B, T), bool)
        if self.model.method.insert_tokens:
            longer_BS, real_BS = self.model.method.insert_tokens(tokens_BT, self.model.cfg.vocab - 1)
        S, asked = longer_BS.shape[1], self.score(longer_BS.astype(np.int32), used_B, like)
        nll_BT, hit_BT = (shift_left(sharding.gather_to_host(x)[:B, :S])[real_BS].reshape(B, T) for x in asked)
        return nll_BT, hit_BT

    def score(self, tokens_BT: np.ndarray, used_B: np.ndarray, like: int) -> tuple[jax.Array, jax.Array]:
        """-> for each token, the score of the next, and more rows and tokens than there were, so that the mesh can
        split them.
        """
        if self.mesh:
            parts = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
            rows = np.arange(-(-len(tokens_BT) // parts) * parts) % len(tokens_BT)
            tokens_BT = np.pad(tokens_BT[rows], [(0, 0), (0, -tokens_BT.shape[1] % self.mesh.shape["seq"])])
            used_B = used_B[rows]
            sharding.check_divisible(self.model.cfg, tokens_BT.shape[0], tokens_BT.shape[1], self.mesh)
        batch = {"tokens_BT": tokens_BT, "next_BT": np.roll(tokens_BT, -1, axis=1)}
        batch = sharding.place_batch(batch, self.mesh) if self.mesh else batch
        return score_batch(self.model, like, self.params, self.by_length.rope(used_B), **batch)


def shift_left(x_BT: np.ndarray) -> np.ndarray:
    """The score of the next token, laid at that token; the first, which nothing predicts, has 0."""
    return np.pad(x_BT[:, :-1], [(0, 0), (1, 0)])
