"""The evaluator's two programs, for shapes in their places: a prompt is read, and then continued."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from longjax import sharding
from longjax.aot.compile import Program, parameters, placed
from longjax.attention.backends import default_decode_backend
from longjax.attention.rope import stack_ropes
from longjax.inference import decode
from longjax.model.llama import Llama
from longjax.sharding.cache_parallel import InferencePlacement, init_sharded_cache
from longjax.training import memory_estimate


def prefill_program(model: Llama, rows: int, size: int, mesh: jax.sharding.Mesh) -> Program:
    """-> generate.begin, of prompts in rows of `size` tokens, on the current mesh."""
    reader, given = program_inputs(model, rows, size, mesh)
    traced = decode.prefill.trace(reader, size, *given)
    return Program(
        traced,
        {"parameters": memory_estimate.bytes_per_device(given[0]), "cache": memory_estimate.bytes_per_device(given[2])},
    )


def decode_program(model: Llama, rows: int, size: int, mesh: jax.sharding.Mesh, platform: str) -> Program:
    """-> generate.go_on, of such rows."""
    reader, given = program_inputs(model, rows, size, mesh)
    params, rope, cache, *_, rules = given
    begun = jax.eval_shape(lambda *given: decode.prefill(reader, size, *given), *given)
    writer = dataclasses.replace(reader, backend=default_decode_backend(platform))
    traced = decode.decode.trace(writer, size, params, rope, begun, rules, np.int32(size))
    return Program(
        traced,
        {"parameters": memory_estimate.bytes_per_device(params), "cache": memory_estimate.bytes_per_device(cache)},
    )


def program_inputs(model: Llama, rows: int, size: int, mesh: jax.sharding.Mesh) -> tuple[Llama, tuple[Any, ...]]:
    """-> the model that reads, and what it is given: parameters, rope, cache, tokens, lengths, rules."""
    reader = dataclasses.replace(model, train=False, placement=InferencePlacement())
    params = placed(parameters(reader), mesh, jnp.dtype(model.cfg.dtype))
    one = jax.eval_shape(
        lambda: reader.method.rope(model.cfg, size, reader.method.init_params(jax.random.key(0), model.cfg), None)
    )
    rope = stack_ropes([jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), one)] * rows)
    cache = jax.eval_shape(lambda: init_sharded_cache(reader, rows, size, size, mesh))

    def ids(*more: int) -> Any:
        where = jax.NamedSharding(mesh, jax.P(sharding.BATCH, *[None] * len(more)))
        return jax.ShapeDtypeStruct((rows, *more), jnp.int32, sharding=where)

    end, words = (jax.ShapeDtypeStruct((), jnp.int32) for _ in range(2))
    rules: Any = decode.StopRules(*(end, words, ids(1), ids(), ids()))  # pyright: ignore[reportArgumentType]
    return reader, (params, rope, cache, ids(size), ids(), rules)
