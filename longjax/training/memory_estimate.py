"""Estimate of a training step's device memory before it is compiled.

The state is counted exactly. For the rest, buffer liveness is simulated over the step's jaxpr, as the compiler does it:
element-wise operations fuse into their consumers, and dead buffers are reused.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal
from jax.stages import Compiled, Traced

from longjax.training.train_step import TrainState

GIB = 2**30


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Primitives that fuse into their consumers, unless these are a matrix product, a loop, or another program.
ELEMENTWISE = _words(
    "abs add add_any and bitcast_convert_type broadcast_in_dim ceil clamp convert_element_type copy cos div eq erf exp "
    "exp2 floor ge gt integer_pow iota is_finite le log log1p logistic lt max min mul ne neg not or pad pow "
    "reduce_precision rem rev round rsqrt select_n shift_right_logical sign sin slice sqrt square sub tanh transpose"
)
REDUCTIONS = _words("reduce_sum reduce_max reduce_min reduce_or reduce_and argmax argmin")
VIEWS = _words("reshape squeeze expand_dims stop_gradient optimization_barrier")
IN_PLACE = ELEMENTWISE | _words("dynamic_update_slice scatter scatter-add scan while")
CHECKPOINTS = _words("checkpoint remat remat2")


class MemoryEstimate(NamedTuple):
    """Bytes a device.

    Attributes:
      parameters: trained and frozen ones.
      moments: the optimizer's state.
      average: of the weights.
      batch: the arrays of a step.
      gradients: of all trained weights, and their sum over micro-batches.
      saved: activations saved for the backward pass.
      working: the largest temporaries: of one layer forward and backward, or the logits of a slice of tokens.

    """

    parameters: int
    moments: int
    average: int
    batch: int
    gradients: int
    saved: int
    working: int

    def more_rows(self, limit: int) -> float:
        """Returns by which factor the rows of a micro-batch may grow until `limit` bytes are full."""
        by_row = self.saved + self.working
        return (limit - sum(self) + by_row) / max(by_row, 1)


NAMES = {
    "parameters": "parameters", "moments": "optimizer's moments", "average": "average of the weights",
    "batch": "batch", "gradients": "gradients", "saved": "saved for the backward pass",
    "working": "temporaries of a layer or logits",
}  # fmt: skip


def estimate(step: Traced, state: TrainState, batch: Any) -> MemoryEstimate:
    """Returns the estimate of a step (state, batch) -> (state, metrics) that donates its state.

    Nothing is computed: arrays may be shapes with shardings, and their mesh an abstract one.

    Args:
      step: `train_step.trace(...)`.
      state: of the step.
      batch: of the step.

    """
    trained = frozenset((x.shape, x.dtype) for x in jax.tree.leaves(state.trained))
    peak = peak_bytes(step.jaxpr.jaxpr, trained, "saved")
    weights, moments, average = (
        bytes_per_device(x) for x in ((state.trained, state.missing_bits, state.frozen), state.opt_state, state.ema)
    )
    temporary = (peak["gradients"], peak["saved"], peak["working"])
    return MemoryEstimate(weights, moments, average, bytes_per_device(batch), *temporary)


def compiled_bytes(step: Compiled) -> int | None:
    """Returns the compiler's figure of the bytes a device that the step needs; None if it has none."""
    analysis = step.memory_analysis()
    if analysis is None:
        return None
    arguments, results = analysis.argument_size_in_bytes, analysis.output_size_in_bytes
    return arguments + results - analysis.alias_size_in_bytes + analysis.temp_size_in_bytes


def limit_bytes(device: Any) -> int | None:
    """Returns the bytes that programs may use of a device; None if it has no limit (CPUs)."""
    return (device.memory_stats() or {}).get("bytes_limit")


def memory_table(memory: MemoryEstimate, compiled: int | None = None, limit: int | None = None) -> str:
    """Returns a table of text: GiB a device by kind, the compiler's total, and whether it fits into `limit` bytes."""
    rows = [(NAMES[name], bytes_) for name, bytes_ in memory._asdict().items()]
    rows += [("estimate", sum(memory))]
    rows += [("compiled", compiled)] if compiled else []
    lines = ["memory of a device              GiB", *(f"  {name:<27} {bytes_ / GIB:6.2f}" for name, bytes_ in rows)]
    if limit:
        lines.append(f"  {'available':<27} {limit / GIB:6.2f}  {fits_message(memory, compiled or sum(memory), limit)}")
    return "\n".join(lines)


def summary_line(memory: MemoryEstimate, limit: int | None = None) -> str:
    """Returns the table as one line."""
    kinds = ", ".join(f"{NAMES[name]} {bytes_ / GIB:.2f}" for name, bytes_ in memory._asdict().items() if bytes_)
    line = f"estimated memory of a device: {sum(memory) / GIB:.2f} GiB ({kinds})"
    return f"{line} of {limit / GIB:.1f}: {fits_message(memory, sum(memory), limit)}" if limit else line


def fits_message(memory: MemoryEstimate, needed: int, limit: int) -> str:
    """Returns whether `needed` bytes fit into `limit`, and with how many rows they would."""
    rows = memory.more_rows(limit)
    if needed <= limit:
        return f"fits, as would {rows:.1f} times the micro-batch" if 1 < rows < 100 else "fits"
    if rows > 0:
        return f"does not fit, {rows:.2g} times the micro-batch would"
    return "does not fit with any micro-batch: use more devices, or a smaller state (moments, average, LoRA)"


def bytes_per_device(tree: Any) -> int:
    """Returns the bytes a device of a tree of arrays, or of their shapes with shardings."""
    return sum(size_bytes(x) for x in jax.tree.leaves(tree))


def size_bytes(x: Any) -> int:
    """Returns the bytes a device of an array or its shape; 0 if it lies in host memory."""
    if getattr(x, "memory_space", None) == jax.memory.Space.Host:
        return 0
    sharding, shards = getattr(x, "sharding", None), 1
    if isinstance(sharding, jax.NamedSharding):
        axes = [axis for dim in sharding.spec if dim for axis in ((dim,) if isinstance(dim, str) else dim)]
        shards = math.prod(sharding.mesh.shape[axis] for axis in axes)
    return math.prod(getattr(x, "shape", ())) * getattr(getattr(x, "dtype", None), "itemsize", 0) // shards


def peak_bytes(program: Any, trained: frozenset[Any], kind: str) -> Counter[str]:
    """Returns bytes by kind at the peak of the arrays that a jaxpr creates; its inputs and results are the caller's.

    `trained` are shape and dtype of all trained parameters. `kind` is that of arrays which are no gradients: "saved",
    or "working" inside a rematerialized layer.
    """
    last_use = lifetimes(program, recompute=kind != "working")
    dying: dict[int, list[Any]] = {}
    for x, i in last_use.items():
        dying.setdefault(i, []).append(x)

    def total(arrays):
        count = Counter()
        for x in arrays:
            count[array_kind(x.aval, trained, kind)] += size_bytes(x.aval)
        return count

    live, peak = Counter(), Counter()
    for i, eqn in enumerate(program.eqns):
        new, dead = [x for x in eqn.outvars if x in last_use], dying.get(i, [])
        reused = total(reused_buffers(dead, new)) if eqn.primitive.name in IN_PLACE else Counter()
        inner_kind = "working" if eqn.primitive.name in CHECKPOINTS else kind
        inner = max((peak_bytes(p, trained, inner_kind) for p in programs(eqn)), key=Counter.total, default=Counter())
        live += total(new)
        peak = max(peak, live + inner - reused, key=Counter.total)
        live -= total(dead)
    return peak


def array_kind(aval: Any, trained: frozenset[Any], kind: str) -> str:
    """Returns "gradients" for arrays of a weight's shape outside of rematerialized layers, else `kind`."""
    like_a_weight = kind == "saved" and (getattr(aval, "shape", None), getattr(aval, "dtype", None)) in trained
    return "gradients" if like_a_weight else kind


def reused_buffers(dead: list[Any], new: list[Any]) -> list[Any]:
    """Returns the dying arrays whose buffer a new array of the same shape and type takes."""
    wanted = Counter((x.aval.shape, x.aval.dtype) for x in new)
    reused = []
    for x in dead:
        if x not in new and wanted[x.aval.shape, x.aval.dtype]:
            wanted[x.aval.shape, x.aval.dtype] -= 1
            reused.append(x)
    return reused


def lifetimes(program: Any, recompute: bool) -> dict[Any, int]:
    """Returns the equation that uses it last, of every array that is created here and not returned.

    `recompute`: an element-wise result with several consumers fuses into each, as in the optimizer; else it is stored.
    """
    sources: dict[Any, frozenset[Any]] = {}  # the arrays that must be live for this one to be read
    last_use: dict[Any, int] = {}
    users, returned = consumers(program), {x for x in program.outvars if not isinstance(x, Literal)}

    def needed(xs):
        return frozenset().union(*(sources.get(x, frozenset()) for x in xs if not isinstance(x, Literal)))

    for i, eqn in enumerate(program.eqns):
        inputs = needed(eqn.invars)
        if eqn.primitive.name in VIEWS:
            sources |= {out: needed([x]) for x, out in zip(eqn.invars, eqn.outvars, strict=True)}
        elif eqn.primitive.name in ELEMENTWISE and not returned & {*eqn.outvars} and fuses(users, eqn, recompute):
            sources |= dict.fromkeys(eqn.outvars, inputs)
        else:
            sources |= {out: frozenset((out,)) for out in eqn.outvars}
            last_use |= dict.fromkeys((*inputs, *eqn.outvars), i)
    return {x: i for x, i in last_use.items() if x not in needed(returned)}


def fuses(users: dict[Any, list[bool]], eqn: Any, recompute: bool) -> bool:
    """Returns whether the result is not stored, because it fuses into all its consumers."""
    fusing = users.get(eqn.outvars[0], [])
    return all(fusing) and (recompute or len(fusing) <= 1)


def consumers(program: Any) -> dict[Any, list[bool]]:
    """Returns for every variable whether it can fuse into each equation that uses it."""
    users: dict[Any, list[bool]] = {}
    for eqn in program.eqns:
        fusing = elementwise(eqn) or eqn.primitive.name in REDUCTIONS
        for x in eqn.invars:
            if not isinstance(x, Literal):
                users.setdefault(x, []).append(fusing)
    return users


def elementwise(eqn: Any) -> bool:
    """Returns whether an equation, or a small program such as jnp.where, is element-wise."""
    if eqn.primitive.name != "jit":
        return eqn.primitive.name in ELEMENTWISE | VIEWS
    return all(map(elementwise, eqn.params["jaxpr"].eqns))


def programs(eqn: Any) -> Iterator[Any]:
    """Yields the bodies and branches of an equation."""
    for x in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
        if hasattr(x, "eqns"):
            yield getattr(x, "jaxpr", x)
