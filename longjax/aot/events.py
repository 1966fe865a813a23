"""A compiled program as events in the order of execution: computation, kernels, collectives, loops."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from longjax.aot.hlo import ENTRY, Module, Op, arrays

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
KERNELS = ("tpu_custom_call", "__cudnn$fmha")


class Collective(NamedTuple):
    """An exchange between devices.

    Attributes:
      kind: one of COLLECTIVES.
      group: number of devices that exchange with each other.
      bytes_: of the largest array at one device: gathered, or not yet reduced.
      dtype: of the arrays.
      emitter: the compiler's way of doing it.
      source: as of an `Op`.

    """

    kind: str
    group: int
    bytes_: float
    dtype: str
    emitter: str
    source: str

    @property
    def sent(self) -> float:
        """The bytes that a device sends around a ring."""
        share = (self.group - 1) / self.group
        return self.bytes_ * {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.kind, share)


class Event(NamedTuple):
    """What a device does next.

    Attributes:
      does: its kind; "start" and "wait" are the two ends of asynchronous work.
      op: the instruction.
      collective: the exchange, if it is one.
      key: that "start" and "wait" of the same work share.
      times: number of runs of a loop.
      inside: the events of a loop.

    """

    does: Literal["compute", "kernel", "collective", "start", "wait", "loop"]
    op: Op
    collective: Collective | None = None
    key: str = ""
    times: int = 1
    inside: tuple["Event", ...] = ()


def events(module: Module, computation: str = ENTRY) -> tuple[Event, ...]:
    """Returns the events of a computation in their scheduled order."""
    return tuple(event for op in module[computation] for event in op_events(op, module))


def op_events(op: Op, module: Module) -> Iterator[Event]:
    """Yields the events of one instruction."""
    kind, calls = op.kind, op.attr("calls")
    if kind == "while":
        yield Event("loop", op, times=trip_count(op, module), inside=events(module, op.attr("body")))
    elif kind in ("call", "conditional"):
        bodies = [name for name in re.findall(r"%([\w.\-]+)", op.attrs) if name in module]
        yield from max((events(module, body) for body in bodies), key=len, default=())
    elif kind in COLLECTIVES:
        yield Event("collective", op, collective(op))
    elif kind.endswith("-start"):
        inner = next((o for o in module.get(calls, ()) if o.kind in COLLECTIVES), op)
        yield Event(
            "start", op, collective(inner) if inner.kind.removesuffix("-start") in COLLECTIVES else None, op.name
        )
    elif kind.endswith("-done"):
        yield Event("wait", op, key=op.operands[0])
    elif kind == "fusion" and (found := [*fused_collectives(module, calls)]):
        yield from fusion_events(op, found)
    elif kind == "custom-call" and any(name in op.attrs for name in KERNELS):
        yield Event("kernel", op)
    else:
        yield Event("compute", op)


def fused_collectives(module: Module, computation: str) -> Iterator[tuple[Op, str]]:
    """Yields the collectives of a fusion, and whether it starts them ("Start"), ends them ("Done") or neither ("")."""
    ops = {op.name: op for op in module.get(computation, ())}
    roles = {}
    for op in ops.values():
        role = op.attr("custom_call_target").removeprefix("AsyncCollective")
        if role in ("Start", "Done"):
            roles |= dict.fromkeys(op.operands, role)
    for op in ops.values():
        if op.kind in COLLECTIVES:
            yield op, roles.get(op.name, "")
        elif op.kind == "fusion":
            yield from fused_collectives(module, op.attr("calls"))


def fusion_events(op: Op, found: list[tuple[Op, str]]) -> Iterator[Event]:
    """Yields the events of a TPU's fusion with a collective: its start, its end, work that hides it, or all of it.

    `found` are its `fused_collectives`.
    """
    for inner, role in found:
        key = f"channel {inner.attr('channel_id')}"
        if role == "Start":
            yield Event("start", op, collective(inner), key)
        elif role == "Done":
            yield Event("wait", op, key=key)
        elif "async_collective" not in op.attr("calls"):
            scattered = "all-reduce-scatter" in op.attr("calls")
            exchange = collective(inner)._replace(source=op.source)
            yield Event("collective", op, exchange._replace(kind="reduce-scatter") if scattered else exchange)
    if all(role or "async_collective" in op.attr("calls") for _, role in found):
        yield Event("compute", op)


def collective(op: Op) -> Collective:
    """Returns the exchange of a collective instruction."""
    kind, asynchronous = op.kind.removesuffix("-start"), op.kind.endswith("-start")
    found = [(dtype, bytes_) for dtype, bytes_ in arrays(op.type) if bytes_ > 4] or [("", 0)]
    whole = sum(bytes_ for _, bytes_ in found)
    group = 2 if kind == "collective-permute" else group_size(op.attrs)
    if asynchronous:  # its type names operands and results
        whole *= group / (group + 1) if kind in ("all-gather", "reduce-scatter") else 0.5
    elif kind == "reduce-scatter":
        whole *= group
    emitter = re.search(r'"emitter":"(\w+)"', op.attrs)
    dtypes = "/".join(sorted({dtype for dtype, _ in found}))
    return Collective(kind, group, whole, dtypes, emitter[1] if emitter else "", op.source)


def group_size(attrs: str) -> int:
    """Returns the number of devices that exchange with each other, from any of the three notations of HLO."""
    if found := re.search(r"replica_groups=\{\{([0-9,]+)\}", attrs):
        return found[1].count(",") + 1
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", attrs):
        return int(found[1])
    found = re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attrs)
    assert found, f"no groups in {attrs[:200]}"
    sizes, count = dict(re.findall(r"'?([\w]+)'?=(\d+)", found[1])), 1
    for axis, subset in re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", found[2]):  # 'axis':(k)n is a part of an axis
        count *= int(subset or sizes[axis])
    return count


def trip_count(op: Op, module: Module) -> int:
    """Returns how often a loop runs, by the compiler, or by the number that its counter is compared with."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', op.attrs):
        return int(known[1])
    condition = module[op.attr("condition")]
    numbers = {o.name: int(o.args) for o in condition if o.kind == "constant" and o.args.strip().lstrip("-").isdigit()}
    compared = [numbers[x] for o in condition if o.kind in ("compare", "fusion") for x in o.operands if x in numbers]
    return max((compared or [*numbers.values()]), default=1)


def walk(schedule: tuple[Event, ...], times: int = 1) -> Iterator[tuple[Event, int]]:
    """Yields all events, those of loops included, with how often each happens."""
    for event in schedule:
        yield event, times
        yield from walk(event.inside, times * event.times)


def is_forward(op: Op) -> bool:
    """Returns whether an attention kernel is one of the forward pass."""
    return not re.search("dkv|dq|backward|bwd", op.name + op.attr("custom_call_target"), re.IGNORECASE)
