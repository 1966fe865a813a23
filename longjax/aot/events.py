"""A compiled program as events in the order of execution: work, kernels, exchanges, loops."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from longjax.aot.hlo import ENTRY, Module, Op, arrays

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
KERNELS = ("tpu_custom_call", "__cudnn$fmha")


class Collective(NamedTuple):
    """Attributes: bytes_, of the largest array of the exchange at one device: gathered, or not yet reduced."""

    kind: str
    group: int
    bytes_: float
    dtype: str
    emitter: str
    where: str

    @property
    def sent(self) -> float:
        """-> bytes that a device sends around a ring."""
        share = (self.group - 1) / self.group
        return self.bytes_ * {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.kind, share)


class Event(NamedTuple):
    """What a device does next.

    Attributes:
      does: "start" and "wait" are the two ends, by `key`, of what goes on beside other work.
      times: that a loop runs.
      inside: a loop.

    """

    does: Literal["compute", "kernel", "collective", "start", "wait", "loop"]
    op: Op
    collective: Collective | None = None
    key: str = ""
    times: int = 1
    inside: tuple["Event", ...] = ()


def events(module: Module, computation: str = ENTRY) -> tuple[Event, ...]:
    return tuple(event for op in module[computation] for event in events_of(op, module))


def events_of(op: Op, module: Module) -> Iterator[Event]:
    kind, calls = op.kind, op.attr("calls")
    if kind == "while":
        yield Event("loop", op, times=trips(op, module), inside=events(module, op.attr("body")))
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
    elif kind == "fusion" and (found := [*exchanges(module, calls)]):
        yield from of_fusion(op, found)
    elif kind == "custom-call" and any(name in op.attrs for name in KERNELS):
        yield Event("kernel", op)
    else:
        yield Event("compute", op)


def exchanges(module: Module, computation: str) -> Iterator[tuple[Op, str]]:
    """-> collectives inside of a fusion, and whether it starts them, ends them ("Start", "Done") or neither."""
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
            yield from exchanges(module, op.attr("calls"))


def of_fusion(op: Op, found: list[tuple[Op, str]]) -> Iterator[Event]:
    """A TPU's fusion with a collective in it: its beginning, its end, some work while it goes on, or all of it."""
    for inner, role in found:
        key = f"channel {inner.attr('channel_id')}"
        if role == "Start":
            yield Event("start", op, collective(inner), key)
        elif role == "Done":
            yield Event("wait", op, key=key)
        elif "async_collective" not in op.attr("calls"):
            scattered = "all-reduce-scatter" in op.attr("calls")
            what = collective(inner)._replace(where=op.where)
            yield Event("collective", op, what._replace(kind="reduce-scatter") if scattered else what)
    if all(role or "async_collective" in op.attr("calls") for _, role in found):
        yield Event("compute", op)


def collective(op: Op) -> Collective:
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
    return Collective(kind, group, whole, dtypes, emitter[1] if emitter else "", op.where)


def group_size(attrs: str) -> int:
    """-> devices that exchange with each other, in any of the three notations."""
    if found := re.search(r"replica_groups=\{\{([0-9,]+)\}", attrs):
        return found[1].count(",") + 1
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", attrs):
        return int(found[1])
    found = re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attrs)
    assert found, f"no groups in {attrs[:200]}"
    sizes, count = dict(re.findall(r"'?([\w]+)'?=(\d+)", found[1])), 1
    for axis, part in re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", found[2]):  # 'axis':(k)n is a part of an axis
        count *= int(part or sizes[axis])
    return count


def trips(op: Op, module: Module) -> int:
    """-> how often a loop runs: what the compiler says, or the number that its counter is compared with."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', op.attrs):
        return int(known[1])
    condition = module[op.attr("condition")]
    numbers = {o.name: int(o.args) for o in condition if o.kind == "constant" and o.args.strip().lstrip("-").isdigit()}
    compared = [numbers[x] for o in condition if o.kind in ("compare", "fusion") for x in o.operands if x in numbers]
    return max((compared or [*numbers.values()]), default=1)


def walk(found: tuple[Event, ...], times: int = 1) -> Iterator[tuple[Event, int]]:
    """-> all events with how often each happens."""
    for event in found:
        yield event, times
        yield from walk(event.inside, times * event.times)


def is_forward(op: Op) -> bool:
    """-> whether an attention kernel is one of the forward pass."""
    return not re.search("dkv|dq|backward|bwd", op.name + op.attr("custom_call_target"), re.IGNORECASE)
