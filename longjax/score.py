"""The two questions that an evaluator may ask of a model: how likely are these tokens, and what comes next?

Both use the same `Llama.apply` as training and compile once a shape. Letters as in llama.py.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from longjax import sharding
from longjax.attention import Tokens
from longjax.llama import Llama, logits
from longjax.rope import Rope
from longjax.train import by_slices, pick


@partial(jax.jit, static_argnums=(0, 1, 2))
def score_batch(
    model: Llama, slices: int, length: int, params: Any, rope: Rope, tokens_BT: jax.Array, next_BT: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """-> nll_BT, hit_BT: -log p of each `next` token given the tokens up to it, and whether it was the likeliest.

    Logits are made for T / slices tokens at a time. `length` is that of the sequence: what comes after is padding.
    """
    B, T = tokens_BT.shape
    hidden_BTD, _ = model.apply({"params": params}, tokens_BT, Tokens.whole(B, T), length, rope=rope)

    def score(_, slab):
        hidden_BTD, next_BT = slab
        x_BTV = logits(params, hidden_BTD, model.place)
        nll_BT = jax.nn.logsumexp(x_BTV, axis=-1) - pick(x_BTV, next_BT)
        return None, (nll_BT, pick(x_BTV, next_BT) >= x_BTV.max(axis=-1))

    _, answers = jax.lax.scan(score, None, (by_slices(hidden_BTD, slices), by_slices(next_BT, slices)))
    nll_BT, hit_BT = (jnp.moveaxis(x, 0, 2).reshape(B, T) for x in answers)
    return nll_BT, hit_BT


@dataclasses.dataclass(frozen=True)
class Scorer:
    """`score_batch` on the host, as evaluators ask it; on a mesh, rows are split over it.

    Rows are grouped by true length, since a method may choose its frequencies by it: a row's score never
    depends on its neighbours or on padding.
    """

    model: Llama
    params: Any
    mesh: jax.sharding.Mesh | None = None

    def __call__(self, tokens_BT: np.ndarray, length_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """-> nll_BT, hit_BT; 0 and False at the first token and beyond a row's length."""
        nll_BT, hit_BT = np.zeros(tokens_BT.shape, np.float32), np.zeros(tokens_BT.shape, bool)
        for length in np.unique(length_B):
            rows = np.flatnonzero(length_B == length)
            nll_BT[rows, :length], hit_BT[rows, :length] = self.one_call(tokens_BT[rows, :length])
        return nll_BT, hit_BT

    def one_call(self, tokens_BT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of one length, with the tokens that the method inserts."""
        B, T = tokens_BT.shape
        longer_BS, real_BS = tokens_BT, np.ones((B, T), bool)
        if self.model.method.insert:
            longer_BS, real_BS = self.model.method.insert(tokens_BT, self.model.cfg.vocab - 1)
        S, answers = longer_BS.shape[1], map(sharding.whole, self.asked(longer_BS.astype(np.int32)))
        nll_BT, hit_BT = (shifted(x[:B, :S])[real_BS].reshape(B, T) for x in answers)
        return nll_BT, hit_BT

    def asked(self, tokens_BT: np.ndarray) -> tuple[jax.Array, jax.Array]:
        """-> for each token, the score of the next, and more rows and tokens than there were, so that the mesh can
        split them.
        """
        length = tokens_BT.shape[1]
        if self.mesh:
            parts = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
            rows = np.arange(-(-len(tokens_BT) // parts) * parts) % len(tokens_BT)
            tokens_BT = np.pad(tokens_BT[rows], [(0, 0), (0, -length % self.mesh.shape["seq"])])
            sharding.check(self.model.cfg, tokens_BT.shape[0], tokens_BT.shape[1], self.mesh)
        T = tokens_BT.shape[1]
        batch = {"tokens_BT": tokens_BT, "next_BT": np.roll(tokens_BT, -1, axis=1)}
        batch = sharding.place_batch(batch, self.mesh) if self.mesh else batch
        slices = next(n for n in range(max(1, -(-T // 1024)), T + 1) if T % n == 0)
        rope = self.model.method.rope(self.model.cfg, length, self.params.get("method", {}), None)
        return score_batch(self.model, slices, length, self.params, rope, **batch)


def shifted(x_BT: np.ndarray) -> np.ndarray:
    """The score of the next token, laid at that token; the first, which nothing predicts, has 0."""
    return np.pad(x_BT[:, :-1], [(0, 0), (1, 0)])


@partial(jax.jit, static_argnums=(0, 1))
def generate(model: Llama, new: int, params: Any, tokens_BT: jax.Array, length_B: jax.Array) -> jax.Array:
    """-> tokens_BC, C = new: the likeliest continuation of each row, whose true length is given.

    Frequencies are those of the longest row's whole sequence, T + new, for all steps.
    """
    B, T = tokens_BT.shape
    index_BT = jnp.broadcast_to(jnp.arange(T, dtype=jnp.int32), (B, T))
    prompt = Tokens.at(index_BT, real_BT=index_BT < length_B[:, None])
    run = partial(model.apply, {"params": params}, length=T + new)
    hidden_BTD, memory = run(tokens_BT, prompt, memory=model.empty_memory(B, T + new, T + new))
    last_BTD = jnp.take_along_axis(hidden_BTD, (length_B - 1)[:, None, None], axis=1)

    def step(carry, n):
        token_B1, memory = carry
        hidden_BTD, memory = run(token_B1, Tokens.at((length_B + n)[:, None]), memory=memory)
        return (likeliest(model, params, hidden_BTD), memory), token_B1[:, 0]

    start = (likeliest(model, params, last_BTD), memory)
    _, new_CB = jax.lax.scan(step, start, jnp.arange(new, dtype=jnp.int32))
    return new_CB.T


def likeliest(model: Llama, params: Any, hidden_BTD: jax.Array) -> jax.Array:
    return jnp.argmax(logits(params, hidden_BTD, model.place), axis=-1).astype(jnp.int32)
