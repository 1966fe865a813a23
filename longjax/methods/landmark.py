"""Landmark attention: trains on short rows, and retrieves blocks of a long context by their landmark tokens.

Mohtashami and Jaggi 2023, arXiv:2305.16300; equations 13-14 of arXiv:2409.12181. The text is split into blocks of
block - 1 tokens, each closed by a landmark, an extra token of the vocabulary. attention/landmark/dense.py is the
attention of training, attention/landmark/memory.py that of inference.
"""

import dataclasses
from typing import Literal

import numpy as np

from longjax.attention.landmark.dense import LandmarkAttention
from longjax.attention.landmark.memory import LandmarkMemory, PerChunk, PerToken, ScorePooling
from longjax.methods.identity import identified
from longjax.methods.method import Method


@dataclasses.dataclass(frozen=True)
class InsertLandmarks:
    """Inserts a landmark before token block - 1, 2 (block - 1), ...; but not after the last token."""

    block: int

    def __call__(self, tokens_BT: np.ndarray, token: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns (tokens_BS, real_BS): the longer rows, and which tokens are no landmarks. `token` is the landmark."""
        B, T = tokens_BT.shape
        S = T + max(T - 1, 0) // (self.block - 1)
        real_S = ~self.is_inserted(np.arange(S))
        tokens_BS = np.full((B, S), token, tokens_BT.dtype)
        tokens_BS[:, real_S] = tokens_BT
        return tokens_BS, np.broadcast_to(real_S, (B, S))

    def is_inserted(self, index):
        """Returns whether the token at this index of the longer row is a landmark, also while generating."""
        return index % self.block == self.block - 1


@dataclasses.dataclass(frozen=True)
class LandmarkTraining:
    """The attention of training: attention to a block's tokens is gated by attention to its landmark."""

    block: int

    def __call__(self, cfg, length):
        return LandmarkAttention(self.block)


@dataclasses.dataclass(frozen=True)
class LandmarkInference:
    """The attention of inference: a query opens the `top_k` blocks whose landmarks score best."""

    block: int
    top_k: int
    pool: ScorePooling
    chunk: int | None

    def __call__(self, cfg, length):
        return LandmarkMemory(self.block, self.top_k, self.pool, self.chunk)


@identified
def landmark(
    block: int = 64,  # tokens of a block, the landmark included
    top_k: int = 5,  # blocks that a query opens
    select: Literal["token_head", "chunk_max"] = "token_head",  # choose blocks by query and head, or by chunk
    chunk: int | None = 1,  # blocks of a prompt that are processed together (the paper: 2); None: every call is a chunk
    row_length: int = 512,  # tokens of the rows into which training rows are split (the paper: 512)
) -> Method:
    """Landmark attention."""
    if block < 2:
        raise ValueError(f"--block={block} must be at least 2: a landmark and a token")
    if top_k < 1:
        raise ValueError(f"--top_k={top_k} must be at least 1")
    if chunk is not None and chunk < 1:
        raise ValueError(f"--chunk={chunk} must be at least 1 block")
    pool = {"token_head": PerToken(), "chunk_max": PerChunk()}[select]
    return Method(
        attention=LandmarkInference(block, top_k, pool, chunk),
        attention_train=LandmarkTraining(block),
        insert_tokens=InsertLandmarks(block),
        row_length=row_length,
    )
