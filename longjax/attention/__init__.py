"""Attention as a union of branches: RoPE, visible-key intervals, the softmax, kernels, the KV cache, Landmark.

May import `longjax.config`. The names below are the vocabulary that methods are made of.
"""

from longjax.attention.branched import BranchedAttention
from longjax.attention.branches import (
    Branch,
    Clipped,
    Constant,
    Grouped,
    Identity,
    Interpolated,
    LogN,
    Modulo,
    PositionMap,
    UnitScale,
)
from longjax.attention.core import Attention, AttentionMetadata, TokenPositions
from longjax.attention.intervals import (
    BeyondWindow,
    CacheRetention,
    Causal,
    Chunk,
    DistanceRange,
    EarlierChunks,
    Interval,
    PreviousChunk,
    ShiftedChunks,
    SlidingWindow,
)
from longjax.attention.rope import Rope

__all__ = [
    "Attention",
    "AttentionMetadata",
    "BeyondWindow",
    "Branch",
    "BranchedAttention",
    "CacheRetention",
    "Causal",
    "Chunk",
    "Clipped",
    "Constant",
    "DistanceRange",
    "EarlierChunks",
    "Grouped",
    "Identity",
    "Interpolated",
    "Interval",
    "LogN",
    "Modulo",
    "PositionMap",
    "PreviousChunk",
    "Rope",
    "ShiftedChunks",
    "SlidingWindow",
    "TokenPositions",
    "UnitScale",
]
