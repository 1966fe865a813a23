"""What a training step needs of a device's memory, known before it is compiled.

The state is counted exactly. For the rest the step's jaxpr is followed, array by array from birth to last use, as the
compiler will do: element-wise results never exist but inside the loops of those who use them, and what dies is
written over.
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


def words_pattern(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Made where they are used, unless that is a matrix product, a loop, or another program.
ELEMENTWISE = words_pattern(
    "abs add add_any and broadcast_in_dim ceil clamp convert_element_type copy cos div eq erf exp exp2 floor ge gt "
    "integer_pow iota is_finite le log log1p logistic lt max min mul ne neg not or pad pow reduce_precision rem rev "
    "round rsqrt select_n sign sin slice sqrt square sub tanh transpose"
)
REDUCTIONS = words_pattern("reduce_sum reduce_max reduce_min reduce_or reduce_and argmax argmin")
VIEWS = words_pattern("reshape squeeze expand_dims stop_gradient optimization_barrier")
IN_PLACE = ELEMENTWISE | words_pattern("dynamic_update_slice scatter scatter-add scan while")
CHECKPOINTS = words_pattern("checkpoint remat remat2")


class MemoryEstimate(NamedTuple):
    """Bytes a device.

    Attributes:
      parameters, moments, average: the state; `moments` are all that the optimiser keeps.
      batch: what a step is given.
      gradients: of all trained weights, and their sum over micro-batches.
      kept: between the forward and the backward pass.
      work: at its largest: one layer forward and backward, or the logits of a slice of tokens.

    """

    parameters: int
    moments: int
    average: int
    batch: int
    gradients: int
    saved: int
    working: int

    def more_rows(self, limit: int) -> float:
        """-> how many times the rows of a micro-batch would fill `limit` bytes."""
        grows = self.saved + self.working
        return (limit - sum(self) + grows) / max(grows, 1)


NAMES = {
    "parameters": "parameters", "moments": "optimiser's moments", "average": "average of the weights",
    "batch": "batch", "gradients": "gradients", "saved": "kept for the backward pass",
    "working": "a layer or logits at work",
}  # fmt: skip


def estimate(step: Traced, state: TrainState, batch: Any) -> MemoryEstimate:
    """Of a step (state, batch) -> (state, metrics) that donates its state: `train_step.trace(...)`.

    Arrays may be shapes with shardings, and their mesh an abstract one: nothing is computed.
    """
    trained = frozenset((x.shape, x.dtype) for x in jax.tree.leaves(state.trained))
    top = peak_bytes(step.jaxpr.jaxpr, trained, "kept")
    weights, moments, average = (
        bytes_per_device(x) for x in ((state.trained, state.frozen), state.opt_state, state.ema)
    )
    return MemoryEstimate(
        weights, moments, average, bytes_per_device(batch), top["gradients"], top["kept"], top["work"]
    )


def compiled_bytes(step: Compiled) -> int | None:
    """-> what the compiler says that the step needs a device; None if it does not say."""
    analysis = step.memory_analysis()
    if analysis is None:
        return None
    arguments, results = analysis.argument_size_in_bytes, analysis.output_size_in_bytes
    return arguments + results - analysis.alias_size_in_bytes + analysis.temp_size_in_bytes


def limit_bytes(device: Any) -> int | None:
    """-> what the device may hold; None if it does not say (CPUs)."""
    return (device.memory_stats() or {}).get("bytes_limit")


def memory_table(memory: MemoryEstimate, compiled: int | None = None, limit: int | None = None) -> str:
    """-> what a run prints before its first step: GiB a device by kind, the compiler's total, and whether it fits."""
    rows = [(NAMES[name], bytes_) for name, bytes_ in memory._asdict().items()]
    rows += [("estimate", sum(memory))]
    rows += [("compiled", compiled)] if compiled else []
    lines = ["memory of a device              GiB", *(f"  {name:<27} {bytes_ / GIB:6.2f}" for name, bytes_ in rows)]
    if limit:
        lines.append(f"  {'there is':<27} {limit / GIB:6.2f}  {fits_message(memory, compiled or sum(memory), limit)}")
    return "\n".join(lines)


def summary_line(memory: MemoryEstimate, limit: int | None = None) -> str:
    """-> the table in a line."""
    parts = ", ".join(f"{NAMES[name]} {bytes_ / GIB:.2f}" for name, bytes_ in memory._asdict().items() if bytes_)
    whole = f"a device will hold about {sum(memory) / GIB:.2f} GiB ({parts})"
    return f"{whole} of its {limit / GIB:.1f}: {fits_message(memory, sum(memory), limit)}" if limit else whole


def fits_message(memory: MemoryEstimate, needed: int, limit: int) -> str:
    rows = memory.more_rows(limit)
    if needed <= limit:
        return f"it fits, with up to {rows:.1f} times the rows at a time" if 1 < rows < 100 else "it fits"
    if rows > 0:
        return f"it does not fit: with {rows:.2g} of the rows at a time it would"
    return "it does not fit, with however few rows: more devices, a smaller state (moments, average, LoRA)"


def bytes_per_device(tree: Any) -> int:
    """-> bytes a device."""
    return sum(size_bytes(x) for x in jax.tree.leaves(tree))


def size_bytes(x: Any) -> int:
    """-> bytes a device, of an array or of what describes one; none of what was moved to the host."""
    if getattr(x, "memory_space", None) == jax.memory.Space.Host:
        return 0
    where, pieces = getattr(x, "sharding", None), 1
    if isinstance(where, jax.NamedSharding):
        axes = [axis for dim in where.spec if dim for axis in ((dim,) if isinstance(dim, str) else dim)]
        pieces = math.prod(where.mesh.shape[axis] for axis in axes)
    return math.prod(getattr(x, "shape", ())) * getattr(getattr(x, "dtype", None), "itemsize", 0) // pieces


def peak_bytes(program: Any, trained: frozenset[Any], kind: str) -> Counter[str]:
    """-> bytes by kind, when the arrays born in this program are most. Its arguments and results are the caller's."""
    until = lifetimes(program, again=kind != "work")
    ends: dict[int, list[Any]] = {}
    for x, i in until.items():
        ends.setdefault(i, []).append(x)

    def total(arrays):
        """-> bytes by kind."""
        count = Counter()
        for x in arrays:
            count[array_kind(x.aval, trained, kind)] += size_bytes(x.aval)
        return count

    live, top = Counter(), Counter()
    for i, eqn in enumerate(program.eqns):
        new, gone = [x for x in eqn.outvars if x in until], ends.get(i, [])
        reused = total(written_over(gone, new)) if eqn.primitive.name in IN_PLACE else Counter()
        inside = "work" if eqn.primitive.name in CHECKPOINTS else kind
        inner = max((peak_bytes(p, trained, inside) for p in programs(eqn)), key=Counter.total, default=Counter())
        live += total(new)
        top = max(top, live + inner - reused, key=Counter.total)
        live -= total(gone)
    return top


def array_kind(aval: Any, trained: frozenset[Any], kind: str) -> str:
    like_a_weight = kind == "kept" and (getattr(aval, "shape", None), getattr(aval, "dtype", None)) in trained
    return "gradients" if like_a_weight else kind


def written_over(gone: list[Any], new: list[Any]) -> list[Any]:
    """-> those of the dying arrays whose place a new one of the same shape takes."""
    free = Counter((x.aval.shape, x.aval.dtype) for x in new)
    taken = []
    for x in gone:
        if x not in new and free[x.aval.shape, x.aval.dtype]:
            free[x.aval.shape, x.aval.dtype] -= 1
            taken.append(x)
    return taken


def lifetimes(program: Any, again: bool) -> dict[Any, int]:
    """-> for all arrays that are born here and not returned, the equation that uses them last.

    `again`: an element-wise result with several users is made for each, as in the optimiser; else it is stored.
    """
    made_of: dict[Any, frozenset[Any]] = {}  # the arrays that must live for this one to be read
    until: dict[Any, int] = {}
    users, returned = consumers(program), {x for x in program.outvars if not isinstance(x, Literal)}

    def needed(xs):
        return frozenset().union(*(made_of.get(x, frozenset()) for x in xs if not isinstance(x, Literal)))

    for i, eqn in enumerate(program.eqns):
        inputs = needed(eqn.invars)
        if eqn.primitive.name in VIEWS:
            made_of |= {out: needed([x]) for x, out in zip(eqn.invars, eqn.outvars, strict=True)}
        elif eqn.primitive.name in ELEMENTWISE and not returned & {*eqn.outvars} and newly_live(users, eqn, again):
            made_of |= dict.fromkeys(eqn.outvars, inputs)
        else:
            made_of |= {out: frozenset((out,)) for out in eqn.outvars}
            until |= dict.fromkeys((*inputs, *eqn.outvars), i)
    return {x: i for x, i in until.items() if x not in needed(returned)}


def newly_live(users: dict[Any, list[bool]], eqn: Any, again: bool) -> bool:
    """Whether its result need not be stored, as those who use it can make it themselves."""
    able = users.get(eqn.outvars[0], [])
    return all(able) and (again or len(able) <= 1)


def consumers(program: Any) -> dict[Any, list[bool]]:
    """-> for every variable, of each equation that uses it, whether it can make it itself."""
    users: dict[Any, list[bool]] = {}
    for eqn in program.eqns:
        able = elementwise(eqn) or eqn.primitive.name in REDUCTIONS
        for x in eqn.invars:
            if not isinstance(x, Literal):
                users.setdefault(x, []).append(able)
    return users


def elementwise(eqn: Any) -> bool:
    """Also of small programs, such as jnp.where."""
    if eqn.primitive.name != "jit":
        return eqn.primitive.name in ELEMENTWISE | VIEWS
    return all(map(elementwise, eqn.params["jaxpr"].eqns))


def programs(eqn: Any) -> Iterator[Any]:
    """-> bodies and branches of an equation."""
    for x in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
        if hasattr(x, "eqns"):
            yield getattr(x, "jaxpr", x)
