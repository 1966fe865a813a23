"""Dual Chunk Attention (ChunkLlama): positions start again in every chunk; later queries stand behind the chunk.

An et al. 2024, arXiv:2402.17463, equations 2-9. With s = `chunk` and w = `local`, chunks hold c = s - w tokens: the
query stands at i mod c for its own chunk, at min(i mod c + c, s) for the previous one, at min(2c - 1, s) for earlier
ones, and a key always at j mod c.
"""

import dataclasses
import math

from longjax.attention.branched import BranchedAttention
from longjax.attention.branches import Branch, Constant, Modulo
from longjax.attention.intervals import Chunk, EarlierChunks, PreviousChunk
from longjax.attention.rope import inv_freq
from longjax.methods.identity import identified
from longjax.methods.method import Method, fixed_rope, frozen, plain_rope


@dataclasses.dataclass(frozen=True)
class DcaRope:
    """Base frequencies with the released code's temperature, which grows with the length. The paper did not use it."""

    def __call__(self, cfg, length, method_params, key):
        return fixed_rope(inv_freq(cfg), scale=0.05 * math.log(max(length / cfg.trained_len, 1.0)) + 1.0)


@dataclasses.dataclass(frozen=True)
class Dca:
    """Attention within a chunk, to the previous one and to all earlier ones, at positions that never exceed `chunk`."""

    chunk: int | None
    local: int | None

    def __call__(self, cfg, length):
        chunk = cfg.trained_len * 3 // 4 if self.chunk is None else self.chunk
        local = cfg.trained_len // 8 if self.local is None else self.local
        if not 0 <= local < chunk:
            raise ValueError(f"--local={local} must be below --chunk={chunk}: a chunk holds their difference")
        size = chunk - local
        key_position = Modulo(size)
        return BranchedAttention((
            Branch(Chunk(size), key_position, key_position),
            Branch(PreviousChunk(size), Modulo(size, size, chunk), key_position),
            Branch(EarlierChunks(size), Constant(min(2 * size - 1, chunk)), key_position),
        ))  # fmt: skip


@identified
def dca(
    chunk: int | None = None,  # largest position of a query, in tokens; None: 3/4 of the trained length (as released)
    local: int | None = None,  # tokens by which a chunk is shorter than `chunk`; None: 1/8 of the trained length
    mscale: bool = False,  # apply the released code's temperature, which the paper's numbers did not use
) -> Method:
    """Dual Chunk Attention, without training."""
    return Method(rope=DcaRope() if mscale else plain_rope, attention=Dca(chunk, local), trainable=frozen)
