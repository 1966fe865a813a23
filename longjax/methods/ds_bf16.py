"""Audit of the position tables that LCEG's training stack builds (transformers 4.35 under DeepSpeed 0.12 ZeRO-3).

zero.Init rounds every float `arange` to bfloat16 and the engine then casts all buffers, so that of 32768 positions
1153 stay distinct with PI and YaRN, while dynamic NTK, which recomputes its frequencies, keeps them all. This may
confound the comparison of arXiv:2409.12181; here it can be repeated on purpose.
"""

import dataclasses

import jax
import jax.numpy as jnp

from longjax.attention.rope import AngleTable, Float32
from longjax.methods.identity import identified
from longjax.methods.method import Method, RopeFn, plain_rope
from longjax.methods.ntk import FixedNtkRope, NtkRope
from longjax.methods.pi import PiRope
from longjax.methods.yarn import Ramp, YarnRope


def bf16(x: jax.Array) -> jax.Array:
    """Returns x rounded to bfloat16, in float32. Not by two casts, which XLA would remove."""
    return jax.lax.reduce_precision(x.astype(jnp.float32), exponent_bits=8, mantissa_bits=7)


@dataclasses.dataclass(frozen=True)
class AtInit:
    """The table that the constructor builds: bfloat16 positions, float32 frequencies, the result rounded."""

    divisor: float = 1.0  # of positions (PI)

    def __call__(self, position_BT, freq, scale):
        cos_BTR, sin_BTR = Float32()(bf16(bf16(position_BT) / self.divisor), freq, scale)
        return bf16(cos_BTR), bf16(sin_BTR)


@dataclasses.dataclass(frozen=True)
class AtForward:
    """The table that the first longer sequence rebuilds: positions, frequencies and angles are all bfloat16.

    `run`: torch on a CPU rounds the first of every 16 positions, adds the rest, and rounds again; 1 on a GPU.
    """

    divisor: float = 1.0
    run: int = 1

    def __call__(self, position_BT, freq, scale):
        position_BT = position_BT.astype(jnp.float32)
        run_start_BT = jnp.floor(position_BT / self.run) * self.run
        position_BT = bf16(bf16(bf16(run_start_BT) + (position_BT - run_start_BT)) / self.divisor)
        angle_BTR = bf16(position_BT[..., None] * bf16(freq))
        return bf16(jnp.cos(angle_BTR) * scale), bf16(jnp.sin(angle_BTR) * scale)


@dataclasses.dataclass(frozen=True)
class Recomputed:
    """The table of frequencies that the forward pass recomputes: they are float32, only the table is rounded."""

    def __call__(self, position_BT, freq, scale):
        cos_BTR, sin_BTR = Float32()(position_BT, freq, scale)
        return bf16(cos_BTR), bf16(sin_BTR)


@dataclasses.dataclass(frozen=True)
class DeepSpeedTables:
    """The frequencies of `inner`, with one table up to `built_len` tokens (None: the trained length), one beyond."""

    inner: RopeFn
    first: AngleTable
    later: AngleTable
    built_len: int | None = None

    def __call__(self, cfg, length, method_params, key):
        table = self.first if length <= (self.built_len or cfg.trained_len) else self.later
        return self.inner(cfg, length, method_params, key).replace(table=table)


@identified
def ds_bf16(method: Method, built_len: int | None = None, run: int = 1) -> Method:
    """Returns `method` with the rounded position tables of LCEG's training stack.

    Args:
      method: base, PI, NTK or YaRN.
      built_len: max_position_embeddings of the released checkpoint, in tokens; None: the trained length.
      run: positions that torch rounds together: 1 on a GPU, 16 on a CPU.

    Raises:
      ValueError: the tables of this method are not known.

    """
    match method.rope:
        case PiRope(factor):
            rope = DeepSpeedTables(plain_rope, AtInit(factor), AtForward(factor, run), built_len)
        case YarnRope() as inner:
            inner = dataclasses.replace(inner, ramp=Ramp("bfloat16"))
            rope = DeepSpeedTables(inner, AtInit(), AtForward(run=run), built_len)
        case NtkRope() as inner:
            rope = DeepSpeedTables(inner, AtInit(), Recomputed(), built_len)
        case inner if inner is plain_rope or isinstance(inner, FixedNtkRope):
            rope = DeepSpeedTables(inner, AtInit(), AtForward(run=run), built_len)
        case other:
            raise ValueError(f"--position_tables=ds_bf16 exists for PI, NTK, YaRN and the base model, not for {other}")
    return dataclasses.replace(method, rope=rope)
