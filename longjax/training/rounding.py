"""Keeping float32 numbers in 16 bits: exactly, in two halves, or rounded at random, so that small changes add up.

Rounding to nearest loses every change below half a unit in the last place: a learning rate of 2e-5 moves no bfloat16
weight above 0.01, and a second moment that decays by 0.999 never falls.
"""

import itertools

import jax
import jax.numpy as jnp


def split_float32(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns a float32 array as the nearest bfloat16 (halves away from zero) and the 16 bits that are missing."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    return _upper_half(bits + 0x8000), bits.astype(jnp.uint16)


def join_float32(nearest: jax.Array, missing: jax.Array) -> jax.Array:
    """Returns the float32 array that was split; with zeros as missing bits, the bfloat16 array itself."""
    bits = jax.lax.bitcast_convert_type(nearest.astype(jnp.float32), jnp.uint32)
    signed = jax.lax.bitcast_convert_type(missing, jnp.int16).astype(jnp.int32)  # below 0 where it was rounded up
    return jax.lax.bitcast_convert_type(bits + signed.astype(jnp.uint32), jnp.float32)


def round_stochastically(x: jax.Array, key: jax.Array) -> jax.Array:
    """Returns float32 as one of the two neighboring bfloat16 numbers, so chosen that the expected value is x.

    An element's random bits are the sum of those of its indices: any two elements are independent, and bits need to be
    drawn for the axes alone, not for the billions of elements. The same on every mesh.
    """
    bits = jax.random.bits(key, (1 + sum(x.shape),), jnp.uint32)
    first, *of_axes = jnp.split(bits, list(itertools.accumulate((1, *x.shape)))[:-1])
    noise = first[0] + sum(jnp.ix_(*of_axes))
    return _upper_half(jax.lax.bitcast_convert_type(x, jnp.uint32) + (noise & 0xFFFF))


def _upper_half(bits: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type((bits >> 16).astype(jnp.uint16), jnp.bfloat16)
