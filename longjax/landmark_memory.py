"""Landmark attention at inference: the past is a memory of blocks, of which every query opens a few.

Mohtashami and Jaggi 2023, arXiv:2305.16300, section 3.2. A query attends to its chunk in place, and opens the `top_k`
blocks before the chunk whose landmarks score best. These pretend to be nearer than they are ("stingy positions"):
the c-th latest of them stands c + 1 blocks before the chunk, one further if it is not among the last `top_k` blocks.
So no distance is larger than in training. A key is rotated once, by its offset in its block; the query once a slot.

Letters as in rope.py; M blocks, C tokens of a block (its landmark last), J blocks opened, U blocks attended to,
P places of a query.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct

from longjax.attention import NEVER, Scene, Tokens
from longjax.cache import Store
from longjax.config import ModelConfig
from longjax.intervals import Kept
from longjax.landmarks import grouped_softmax
from longjax.rope import Rope, rotate, scaled

TILE = 16  # queries at a time: bounds the copies of opened blocks that exist at once


class Asked(struct.PyTreeNode):
    """Queries, unrotated, and how many blocks lie before the chunk of each."""

    q_BTNH: jax.Array
    tokens: Tokens
    past_BT: jax.Array


class Pool(Protocol):
    """Who chooses together. A frozen dataclass."""

    whole_call: bool  # it must see all queries of a call at once

    def __call__(self, score_BTNM: jax.Array, asked: Asked) -> jax.Array:
        """-> score_BTNM that the choice goes by. Blocks that may not be opened score NEVER, before and after."""
        ...


@dataclasses.dataclass(frozen=True)
class ByToken:
    """Every token and head chooses for itself."""

    whole_call = False

    def __call__(self, score_BTNM, asked):
        return score_BTNM


@dataclasses.dataclass(frozen=True)
class ByChunk:
    """All tokens of a chunk in this call choose together, by the largest share that one of them gives a block.

    A token's choice then depends on later tokens of its chunk, and decoding differs from a single pass.
    """

    whole_call = True

    def __call__(self, score_BTNM, asked):
        counts_BTNM = (score_BTNM > NEVER) & asked.tokens.real_BT[:, :, None, None]
        share_BTNM = jnp.where(counts_BTNM, jax.nn.softmax(score_BTNM, axis=-1), NEVER)
        begins_BT = jnp.diff(asked.past_BT, axis=1, prepend=asked.past_BT[:, :1]) != 0
        chunk_BT, row_B1 = jnp.cumsum(begins_BT, axis=1), jnp.arange(begins_BT.shape[0])[:, None]
        return jnp.full_like(share_BTNM, NEVER).at[row_B1, chunk_BT].max(share_BTNM)[row_B1, chunk_BT]


def best(score_BTNM: jax.Array, top_k: int) -> jax.Array:
    """-> block_BTNJ: the highest scores, equal ones from the earliest block; -1 where fewer may be opened."""
    top_BTNJ, block_BTNJ = jax.lax.top_k(score_BTNM, min(top_k, score_BTNM.shape[-1]))
    return jnp.where(top_BTNJ > NEVER, block_BTNJ, -1)


class Blocks(struct.PyTreeNode):
    """The store by blocks. index_BMC is -1 where no token has come yet; `at`: which layer, where there are several."""

    k_BMCKH: jax.Array
    v_BMCKH: jax.Array
    index_BMC: jax.Array
    at: tuple[jax.Array, ...]

    @classmethod
    def of(cls, store: Store, block: int) -> "Blocks":
        lead = store.index_BW.shape[:-1]

        def cut(x):
            return x.reshape(*lead, -1, block, *x.shape[len(lead) + 1 :])

        return cls(cut(store.k_BWKH), cut(store.v_BWKH), cut(store.index_BW)[store.at], store.at)

    @property
    def landmarks(self) -> jax.Array:
        """-> k_BMKH of the last token of each block."""
        return self.k_BMCKH[(*self.at, slice(None), slice(None), -1)]

    def take(self, block_BTNU: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """-> k_BTNUCH, v_BTNUCH, index_BTNUC: one copy a query and head; index -1 if no such block exists."""
        N, K = block_BTNU.shape[2], self.k_BMCKH.shape[-2]
        row, head = jnp.arange(block_BTNU.shape[0])[:, None, None, None], (jnp.arange(N) // (N // K))[:, None]
        place = (*self.at, row, block_BTNU, slice(None), head)
        k_BTNUCH, v_BTNUCH = (x.at[place].get(mode="clip") for x in (self.k_BMCKH, self.v_BMCKH))
        index_BTNUC = self.index_BMC.at[row, block_BTNU].get(mode="fill", fill_value=-1)
        return k_BTNUCH, v_BTNUCH, index_BTNUC


@dataclasses.dataclass(frozen=True)
class LandmarkMemory:
    """Attention with memory.

    Attributes:
      block: tokens of a block, its landmark included.
      top_k: how many blocks are opened.
      pool: who chooses together.
      chunk: queries of a chunk, of so many blocks, share one past, so that the split of a text into calls does not
        matter; None: each call is a chunk, as in the authors' code.
      choose: (score_BTNM, top_k) -> block_BTNJ in any order, -1 for none. Only audits replace it.

    """

    block: int
    top_k: int
    pool: Pool = ByToken()
    chunk: int | None = 1
    choose: Callable[[jax.Array, int], jax.Array] = best

    def __call__(self, q_BTNH, k_BSKH, v_BSKH, scene: Scene, memory=None):
        keys = scene.keys
        store = self.fresh(k_BSKH) if memory is None else memory
        offset_BS = (keys.index_BT % self.block).astype(jnp.float32)
        store = store.write(rotate(k_BSKH, offset_BS, scene.rope), v_BSKH, keys)
        blocks = Blocks.of(store, self.block)
        asked = Asked(scaled(q_BTNH, scene.rope), scene.queries, self.past(scene))

        def chosen(asked: Asked) -> jax.Array:
            score_BTNM = self.pool(scores(asked, blocks, scene.rope, self.top_k), asked)
            return self.choose(score_BTNM, self.top_k)

        def attended(both: tuple[Asked, jax.Array]) -> jax.Array:
            return attend(*both, blocks, scene.rope, self.top_k, self.here(k_BSKH.shape[1]))

        T = q_BTNH.shape[1]
        block_BTNJ = in_tiles(chosen, T if self.pool.whole_call else TILE, asked)
        return in_tiles(attended, TILE, (asked, block_BTNJ)), None if memory is None else store

    def past(self, scene: Scene) -> jax.Array:
        """-> past_BT: how many blocks lie before the chunk of each query."""
        index_BT = scene.queries.index_BT
        if self.chunk is not None:
            return index_BT // (self.block * self.chunk) * self.chunk
        first_B1 = jnp.min(jnp.where(scene.keys.real_BT, scene.keys.index_BT, 2**30), axis=1, keepdims=True)
        return jnp.broadcast_to(first_B1 // self.block, index_BT.shape)

    def here(self, call: int) -> int:
        """How many blocks a chunk may have, in a call of so many tokens."""
        return self.chunk or (call + self.block - 2) // self.block + 1

    def empty(self, cfg: ModelConfig, batch: int, size: int) -> Store:
        return Store.empty(cfg, batch, size + -size % self.block, Kept())

    def fresh(self, k_BSKH: jax.Array) -> Store:
        """A store for the tokens of one call, from index 0."""
        more = -k_BSKH.shape[1] % self.block
        zeros_BWKH = jnp.pad(jnp.zeros_like(k_BSKH), [(0, 0), (0, more), (0, 0), (0, 0)])
        none_BW = jnp.full(zeros_BWKH.shape[:2], -1, jnp.int32)
        return Store(zeros_BWKH, zeros_BWKH, none_BW, none_BW)


def at_places(q_BTNH: jax.Array, place_BTP: jax.Array, rope: Rope) -> jax.Array:
    """-> q_BTPNH: the queries rotated to each of their places."""
    B, T, P = place_BTP.shape
    q_BTPNH = jnp.broadcast_to(q_BTNH[:, :, None], (B, T, P, *q_BTNH.shape[2:]))
    return rotate(q_BTPNH.reshape(B, T * P, *q_BTNH.shape[2:]), place_BTP.reshape(B, T * P), rope).reshape(
        q_BTPNH.shape
    )


def places(asked: Asked, block: int, first: int, last: int) -> jax.Array:
    """-> place_BTP: where queries stand, seen from blocks that pretend to be first .. last blocks before the chunk."""
    into_BT = asked.tokens.index_BT - asked.past_BT * block
    return into_BT[:, :, None] + jnp.arange(first, last + 1) * block


def scores(asked: Asked, blocks: Blocks, rope: Rope, top_k: int) -> jax.Array:
    """-> score_BTNM: the last top_k blocks stand in place, all earlier ones one block before them."""
    B, T, N, H = asked.q_BTNH.shape
    (M, C), K = blocks.index_BMC.shape[1:], blocks.k_BMCKH.shape[-2]
    q_BTPNH = at_places(asked.q_BTNH, places(asked, C, 1, top_k + 1), rope)
    q_BTPKGH = q_BTPNH.reshape(B, T, -1, K, N // K, H)
    k_BMKH = blocks.landmarks
    near_BTJ = asked.past_BT[:, :, None] - jnp.arange(1, top_k + 1)
    k_BTJKH = k_BMKH.at[jnp.arange(B)[:, None, None], near_BTJ].get(mode="clip")
    far = jnp.einsum("BTKGH,BMKH->BTKGM", q_BTPKGH[:, :, -1], k_BMKH, preferred_element_type=jnp.float32)
    near = jnp.einsum("BTJKGH,BTJKH->BTKGJ", q_BTPKGH[:, :, :-1], k_BTJKH, preferred_element_type=jnp.float32)
    ago_BTM = asked.past_BT[:, :, None] - jnp.arange(M)
    rank_BT1M = jnp.clip(ago_BTM - 1, 0, top_k - 1)[:, :, None]
    near_BTNM = jnp.take_along_axis(near.reshape(B, T, N, top_k), rank_BT1M, axis=-1)
    score_BTNM = jnp.where(ago_BTM[:, :, None] > top_k, far.reshape(B, T, N, M), near_BTNM) * H**-0.5
    may_BTM = (ago_BTM > 0) & (blocks.index_BMC[:, None, :, -1] >= asked.tokens.start_BT[:, :, None])
    return jnp.where(may_BTM[:, :, None], score_BTNM, NEVER)


def attend(asked: Asked, block_BTNJ: jax.Array, blocks: Blocks, rope: Rope, top_k: int, here: int) -> jax.Array:
    """-> out_BTNH. `here` blocks from the beginning of the chunk stand in place."""
    M, C = blocks.index_BMC.shape[1:]
    index_BT11, start_BT11 = (x[:, :, None, None] for x in (asked.tokens.index_BT, asked.tokens.start_BT))
    block_BTNU, ago_BTNU = attended_blocks(asked, block_BTNJ, top_k, here, M)
    q_BTPNH = at_places(asked.q_BTNH, places(asked, C, 1 - here, top_k + 1), rope)
    q_BTNUH = jnp.take_along_axis(jnp.moveaxis(q_BTPNH, 2, 3), ago_BTNU[..., None] + here - 1, axis=3)
    k_BTNUCH, v_BTNUCH, index_BTNUC = blocks.take(block_BTNU)
    x_BTNUC = jnp.einsum("BTNUH,BTNUCH->BTNUC", q_BTNUH, k_BTNUCH, preferred_element_type=jnp.float32)
    seen_BTNUC = (index_BTNUC >= start_BT11[..., None]) & (index_BTNUC <= index_BT11[..., None])
    weight_BTNUC = grouped_softmax(x_BTNUC * q_BTNUH.shape[-1] ** -0.5, seen_BTNUC, block_BTNU == index_BT11 // C)
    out_BTNH = jnp.einsum(
        "BTNUC,BTNUCH->BTNH", weight_BTNUC.astype(v_BTNUCH.dtype), v_BTNUCH, preferred_element_type=jnp.float32
    )
    return out_BTNH.astype(asked.q_BTNH.dtype)


def attended_blocks(asked: Asked, block_BTNJ: jax.Array, top_k: int, here: int, none: int):
    """-> block_BTNU (`none` for none), ago_BTNU: how many blocks before the chunk's first they pretend to stand."""
    past_BT11, shape = asked.past_BT[:, :, None, None], block_BTNJ.shape[:3]
    latest_BTNJ = -jnp.sort(-block_BTNJ, axis=-1)
    is_far = past_BT11 - latest_BTNJ > top_k
    slot_BTNJ = 1 + jnp.arange(block_BTNJ.shape[-1]) + is_far.astype(jnp.int32)
    ahead = jnp.arange(here)
    chunk = jnp.broadcast_to(past_BT11 + ahead, (*shape, here))
    block_BTNU = jnp.concatenate([chunk, jnp.where(latest_BTNJ < 0, none, latest_BTNJ)], axis=-1)
    return block_BTNU, jnp.concatenate([jnp.broadcast_to(-ahead, (*shape, here)), slot_BTNJ], axis=-1)


def in_tiles(f: Callable[[Any], jax.Array], tile: int, asked: Any) -> jax.Array:
    """f of arrays [B, T, ...], of at most `tile` queries at a time."""
    T = jax.tree.leaves(asked)[0].shape[1]
    if tile >= T:
        return f(asked)

    def split(x):
        x = jnp.pad(x, [(0, 0), (0, -T % tile)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(x.shape[0], -1, tile, *x.shape[2:]), 1, 0)

    y = jnp.moveaxis(jax.lax.map(f, jax.tree.map(split, asked)), 0, 1)
    return y.reshape(y.shape[0], -1, *y.shape[3:])[:, :T]
