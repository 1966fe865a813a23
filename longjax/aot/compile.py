"""Compiles the real training step for shapes with shardings; no weights are made."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
from jax.stages import Traced

from longjax import sharding
from longjax.model.llama import Llama
from longjax.training import memory_estimate
from longjax.training.recipe import Recipe
from longjax.training.step_shapes import batch_shapes, param_shapes
from longjax.training.train_step import init_train_state, train_step

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


class Program(NamedTuple):
    """A traced program, with the estimated bytes of a device by kind."""

    traced: Traced
    estimated: dict[str, int]


class MemoryFit(NamedTuple):
    """A device's memory as the compiler reports it, in bytes.

    Attributes:
      held: arguments and results.
      temporary: everything else.
      peak: the most at a time; of a program that does not fit, what it needs.
      text: the scheduled program; "" if it does not fit.

    """

    held: int
    temporary: int
    peak: int
    text: str


def placed(tree: Any, mesh: jax.sharding.Mesh, dtype: Any = None) -> Any:
    """Returns shapes with the shardings of `shard_params`, in another type if one is given."""
    layout = sharding.layout(tree, mesh)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, dtype or x.dtype, sharding=s), tree, layout)


def placed_batch(model: Llama, rows: int, length: int, mesh: jax.sharding.Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a step's batch, split into the method's rows and with its inserted tokens."""
    layout = jax.NamedSharding(mesh, sharding.TOKENS_BT)
    shapes = batch_shapes(model, rows, length)
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout) for name, x in shapes.items()}


def training_program(model: Llama, recipe: Recipe, length: int, mesh: jax.sharding.Mesh) -> Program:
    """Traces `train_step` on the current mesh."""
    params = placed(param_shapes(model), mesh)
    state = jax.eval_shape(lambda params: init_train_state(model, recipe, params), params)
    batch = placed_batch(model, recipe.batch_size, length, mesh)
    traced = train_step.trace(model, recipe, state, batch)
    return Program(traced, memory_estimate.estimate(traced, state, batch)._asdict())


@contextmanager
def optimization_level(fast: bool) -> Iterator[None]:
    """Compiles without optimizing inside the block if `fast`: memory is then right, the schedule is not."""
    before = jax.config.values["jax_optimization_level"]
    jax.config.update("jax_optimization_level", "O0" if fast else before)
    try:
        yield
    finally:
        jax.config.update("jax_optimization_level", before)


def compile_program(program: Program, platform: str, fast: bool) -> MemoryFit:
    """Compiles a program. Raises ValueError if the compiler fails for another reason than memory."""
    try:
        with optimization_level(fast):
            executable = program.traced.lower(lowering_platforms=(platform,)).compile()
    except jax.errors.JaxRuntimeError as error:
        if not (needed := requested_bytes(str(error))):
            raise ValueError(f"the compiler for this topology failed: {str(error)[:500]}") from error
        return MemoryFit(0, 0, needed, "")
    memory: Any = executable.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    peak = getattr(memory, "peak_memory_in_bytes", 0) or held + memory.temp_size_in_bytes
    return MemoryFit(held, memory.temp_size_in_bytes, peak, executable.as_text() or "")


def requested_bytes(error: str) -> int:
    """Returns the bytes that a program needs by a compiler's error about memory, of TPU or GPU; 0: another error."""
    match = re.search(r"(?:Used |temporaries \()([\d.]+)([KMG])\)? (?:of|exceeds available)", error)
    return round(float(match[1]) * UNITS[match[2]]) if match else 0
