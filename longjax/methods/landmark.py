"""Landmark attention: short training, long memory.

Mohtashami and Jaggi 2023, arXiv:2305.16300; equations 13-14 of arXiv:2409.12181. The text is cut into pieces of
block - 1 tokens, with a landmark, an extra token of the vocabulary, between them. See landmarks.py for training and
landmark_memory.py for inference.
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
    """A landmark before token block - 1, 2 (block - 1), ...; none after the last token, even if it fills a block."""

    block: int

    def __call__(self, tokens_BT: np.ndarray, token: int) -> tuple[np.ndarray, np.ndarray]:
        """-> (tokens_BS, real_BS). `token` is the landmark."""
        B, T = tokens_BT.shape
        S = T + max(T - 1, 0) // (self.block - 1)
        real_S = ~self.is_inserted(np.arange(S))
        tokens_BS = np.full((B, S), token, tokens_BT.dtype)
        tokens_BS[:, real_S] = tokens_BT
        return tokens_BS, np.broadcast_to(real_S, (B, S))

    def is_inserted(self, index):
        """Whether the element at this index of the longer row is a landmark. Generation puts one there, too."""
        return index % self.block == self.block - 1


@dataclasses.dataclass(frozen=True)
class LandmarkTraining:
    block: int

    def __call__(self, cfg, length):
        return LandmarkAttention(self.block)


@dataclasses.dataclass(frozen=True)
class LandmarkInference:
    block: int
    top_k: int
    pool: ScorePooling
    chunk: int | None

    def __call__(self, cfg, length):
        return LandmarkMemory(self.block, self.top_k, self.pool, self.chunk)


@identified
def landmark(
    block: int = 64,
    top_k: int = 5,
    select: Literal["token_head", "chunk_max"] = "token_head",
    chunk: int | None = 1,
    row_length: int = 512,
) -> Method:
    """Training cuts rows into pieces of `piece` tokens, the paper's 512. `chunk` is in blocks; the paper's runs have
    2. None: every call is a chunk.
    """
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
