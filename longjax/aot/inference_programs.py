"""Traces prefill and decode for shapes with shardings; no weights are made."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from longjax import sharding
from longjax.aot.compile import Program, placed
from longjax.attention.backends import default_decode_backend
from longjax.attention.rope import stack_ropes
from longjax.inference import decode
from longjax.model.llama import Llama
from longjax.sharding.cache_parallel import InferencePlacement, init_sharded_cache
from longjax.training import memory_estimate
from longjax.training.step_shapes import param_shapes


def prefill_program(model: Llama, rows: int, size: int, mesh: jax.sharding.Mesh) -> Program:
    """Traces `prefill` of prompts in rows of `size` tokens on the current mesh."""
    prefill_model, inputs = program_inputs(model, rows, size, mesh)
    params, _, cache, *_ = inputs
    return Program(decode.prefill.trace(prefill_model, size, *inputs), estimated_bytes(params, cache))


def decode_program(model: Llama, rows: int, size: int, mesh: jax.sharding.Mesh, platform: str) -> Program:
    """Traces `decode` of such rows."""
    prefill_model, inputs = program_inputs(model, rows, size, mesh)
    params, rope, cache, *_, rules = inputs
    state = jax.eval_shape(lambda *inputs: decode.prefill(prefill_model, size, *inputs), *inputs)
    decode_model = dataclasses.replace(prefill_model, backend=default_decode_backend(platform))
    traced = decode.decode.trace(decode_model, size, params, rope, state, rules, np.int32(size))
    return Program(traced, estimated_bytes(params, cache))


def estimated_bytes(params: Any, cache: Any) -> dict[str, int]:
    """Returns the bytes of a device by kind."""
    bytes_of = memory_estimate.bytes_per_device
    return {"parameters": bytes_of(params), "cache": bytes_of(cache)}


def program_inputs(model: Llama, rows: int, size: int, mesh: jax.sharding.Mesh) -> tuple[Llama, tuple[Any, ...]]:
    """Returns the model of prefill and its inputs' shapes: parameters, rope, cache, tokens, lengths, rules."""
    model = dataclasses.replace(model, train=False, placement=InferencePlacement())
    method, cfg = model.method, model.cfg
    params = placed(param_shapes(model), mesh, jnp.dtype(cfg.dtype))
    rope = jax.eval_shape(lambda: method.rope(cfg, size, method.init_params(jax.random.key(0), cfg), None))
    rope = stack_ropes([jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), rope)] * rows)
    cache = jax.eval_shape(lambda: init_sharded_cache(model, rows, size, size, mesh))

    def ids(*more: int) -> Any:
        layout = jax.NamedSharding(mesh, jax.P(sharding.BATCH, *[None] * len(more)))
        return jax.ShapeDtypeStruct((rows, *more), jnp.int32, sharding=layout)

    eos_ids_E, vocab_size = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((1,), ()))
    rules: Any = decode.StopRules(*(eos_ids_E, vocab_size, ids(1), ids(), ids()))  # pyright: ignore[reportArgumentType]
    return model, (params, rope, cache, ids(size), ids(), rules)
