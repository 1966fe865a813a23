"""Blocks that queries choose, by the kernels of NVIDIA GPUs, where the softmax is one of theirs.

Letters as in landmark_memory.py.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from longjax.attention.core import Softmax
from longjax.attention.fused import Fused, say_once
from longjax.attention.kernels.triton import Triton
from longjax.attention.kernels.triton_landmark import Asks, Gives, Opening
from longjax.attention.landmark.blocks import Asked, Blocks, Copies, Way, at_places, attend, in_tiles, places, slots
from longjax.attention.rope import Rope

ROOM = 2**29  # bytes of queries at all of their places that may exist at once


def way_of(softmax: Softmax, q_BTNH: jax.Array, block: int) -> Way:
    """-> the kernels where `softmax` is one of theirs and they can; why they cannot is said in a log line.

    That of decoding is not: a single query's copies are small.
    """
    general = softmax.otherwise if isinstance(softmax, Fused) else softmax
    if not isinstance(general, Triton):
        return Copies()
    kernel = Opening(interpret=general.interpret)
    why = kernel.refuses(q_BTNH, block)
    if why:
        say_once(f"Landmark's {why}", Copies())
    return Copies() if why else ByKernel(kernel)


@dataclasses.dataclass(frozen=True)
class ByKernel:
    """A `Way` whose gradient is that of `Copies`."""

    kernel: Opening

    def choose(self, asked, blocks, rope, top_k):
        asked, blocks, rope = jax.lax.stop_gradient((asked, blocks, rope))
        asks = asks_of(asked, blocks, rope, 1, top_k)
        return self.kernel.choose(asks, blocks.landmarks, blocks.index_BMC[:, :, -1], top_k)

    def attend(self, asked, block_BTNJ, blocks, rope, top_k, here) -> jax.Array:
        return attend_by(self.kernel, (top_k, here), asked, block_BTNJ, blocks, rope)

    def most(self, asked, blocks, top_k, here):
        B, _, N, H = asked.q_BTNH.shape
        return max(1, ROOM // (B * N * (top_k + here + 1) * H * asked.q_BTNH.dtype.itemsize))


def asks_of(asked: Asked, blocks: Blocks, rope: Rope, here: int, top_k: int) -> Asks:
    q_BTPNH = at_places(asked.q_BTNH, places(asked, blocks.index_BMC.shape[2], 1 - here, top_k + 1), rope)
    return Asks(q_BTPNH, asked.tokens.index_BT, asked.tokens.start_BT, asked.past_BT)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def attend_by(
    kernel: Opening, sizes: tuple[int, int], asked: Asked, block_BTNJ: jax.Array, blocks: Blocks, rope: Rope
) -> jax.Array:
    """-> out_BTNH. sizes: top_k and here."""
    top_k, here = sizes
    place_BTNJ = slots(asked, block_BTNJ, top_k) + here - 1
    k, v = (x if blocks.at else x[None] for x in (blocks.k_BMCKH, blocks.v_BMCKH))
    layer = jnp.asarray(blocks.at or (0,), jnp.int32)
    gives = Gives(k, v, blocks.index_BMC, layer)
    return kernel.attend(asks_of(asked, blocks, rope, here, top_k), block_BTNJ, place_BTNJ, gives, here)


def attend_forward(kernel, sizes, *given):
    return attend_by(kernel, sizes, *given), given


def attend_backward(kernel, sizes, given, d_out_BTNH):
    """By copies, of as many queries at a time as have room."""
    top_k, here = sizes

    def copied(asked, block_BTNJ, blocks, rope):
        opened = jax.checkpoint(lambda asked, block_BTNJ: attend(asked, block_BTNJ, blocks, rope, top_k, here))
        return in_tiles(opened, Copies().most(asked, blocks, top_k, here), asked, block_BTNJ)

    return jax.vjp(copied, *given)[1](d_out_BTNH)


attend_by.defvjp(attend_forward, attend_backward)
