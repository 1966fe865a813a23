"""The real training step, for shapes in their places, as its compiler makes it. No weights are made."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Traced

from longjax import sharding
from longjax.attention.core import TokenPositions
from longjax.data import RowBatch
from longjax.model.llama import Llama
from longjax.training import memory_estimate
from longjax.training.batch import as_batch
from longjax.training.recipe import Recipe
from longjax.training.train_step import init_train_state, train_step

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


class Program(NamedTuple):
    """What is compiled, with the bytes of a device that are known before, by kind."""

    traced: Traced
    before: dict[str, int]


class MemoryFit(NamedTuple):
    """What the compiler says of a device's memory in bytes: arguments and results, the rest, and the most at a time.

    `text` is the scheduled program; "" where it does not fit, and `peak` then what was asked for.
    """

    held: int
    temporary: int
    peak: int
    text: str


def placed(tree: Any, mesh: jax.sharding.Mesh, dtype: Any = None) -> Any:
    """-> shapes where sharding.put would put arrays."""
    where = sharding.layout(tree, mesh)
    return jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, dtype or x.dtype, sharding=at), tree, where)


def parameters(model: Llama) -> Any:
    """-> shapes."""

    def init():
        one = jnp.zeros((1, 8), jnp.int32)
        return Llama(model.cfg, model.method).init(jax.random.key(0), one, TokenPositions.whole(1, 8), 8)["params"]

    return jax.eval_shape(init)


def batch(model: Llama, rows: int, length: int, mesh: jax.sharding.Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """-> shapes of a step's batch, in the method's pieces and with its inserted tokens."""
    given = RowBatch(np.zeros((rows, length + 1), np.int32), np.ones((rows, length), np.float32), None)
    where = jax.NamedSharding(mesh, sharding.TOKENS_BT)
    arrays = as_batch(given, model.method, model.cfg)
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where) for name, x in arrays.items()}


def training_program(model: Llama, recipe: Recipe, length: int, mesh: jax.sharding.Mesh) -> Program:
    """-> train_step, on the current mesh."""
    state = jax.eval_shape(lambda params: init_train_state(model, recipe, params), placed(parameters(model), mesh))
    given = batch(model, recipe.batch_size, length, mesh)
    traced = train_step.trace(model, recipe, state, given)
    return Program(traced, memory_estimate.estimate(traced, state, given)._asdict())


@contextmanager
def effort(fast: bool) -> Iterator[None]:
    """Fast: does it fit, and no more; the compiler then schedules nothing well."""
    before = jax.config.values["jax_optimization_level"]
    jax.config.update("jax_optimization_level", "O0" if fast else before)
    try:
        yield
    finally:
        jax.config.update("jax_optimization_level", before)


def compiled(program: Program, platform: str, fast: bool) -> MemoryFit:
    """Raises ValueError where the compiler fails for another reason than memory."""
    try:
        with effort(fast):
            done = program.traced.lower(lowering_platforms=(platform,)).compile()
    except jax.errors.JaxRuntimeError as error:
        if not (needed := requested_bytes(str(error))):
            raise ValueError(f"the compiler for this topology failed: {str(error)[:500]}") from error
        return MemoryFit(0, 0, needed, "")
    said: Any = done.memory_analysis()
    held = said.argument_size_in_bytes + said.output_size_in_bytes - said.alias_size_in_bytes
    peak = getattr(said, "peak_memory_in_bytes", 0) or held + said.temp_size_in_bytes
    return MemoryFit(held, said.temp_size_in_bytes, peak, done.as_text() or "")


def requested_bytes(error: str) -> int:
    """-> bytes that the program wanted, in either wording; 0: it did not fail for that."""
    found = re.search(r"(?:Used |temporaries \()([\d.]+)([KMG])\)? (?:of|exceeds available)", error)
    return round(float(found[1]) * UNITS[found[2]]) if found else 0
