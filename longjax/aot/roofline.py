"""How long a compiled program takes on chips that are not here: an estimate, never a measurement.

The compiler's schedule is followed, event by event: its own cycles for what it has fused (TPU) or operations and
bytes over the chip's rates (GPU), attention kernels by their pairs, exchanges by their bytes over the links that their
group spans. What the schedule starts early and waits for late costs what is not hidden.
"""

import collections
import dataclasses
import math
import re
from typing import NamedTuple

import jax
import numpy as np

from longjax.aot import hlo
from longjax.aot.events import Collective, Event, events, is_forward
from longjax.aot.hlo import Op
from longjax.aot.topology import NVLINK, Topology
from longjax.sharding.tpu_topology import ring_axes

MESSAGE = 5e-6  # seconds before the first byte of an exchange
GPU_PRODUCTS = 0.70  # of the peak, in large products of bfloat16: 690 of 989 TFLOP/s measured on an H200
GPU_MEMORY = 0.80  # of the data sheet's rate, in element-wise work
GPU_LINKS = 0.80
WORK = ("fusion", "custom-call", "dot", "copy", "transpose", "reduce", "convert", "sort", *hlo.SLICES)
INFINIBAND = 5e10  # bytes a second of a GPU to other hosts


class Estimate(NamedTuple):
    """Attributes: where, seconds by kind of work; places, the same by place in the program, the most first."""

    seconds: float
    where: dict[str, float]
    places: list[tuple[str, float]]


@dataclasses.dataclass
class StepClock:
    """A device at work; `free` is when its links have nothing more to send.

    Attributes:
      pairs: queries times keys that one attention of one layer of one device sees, over all of its heads.
      width: of a head.

    """

    topology: Topology
    mesh: jax.sharding.Mesh
    module: hlo.Module
    pairs: float
    width: int

    def __post_init__(self):
        self.where: dict[str, float] = collections.defaultdict(float)
        self.places: dict[str, float] = collections.defaultdict(float)
        self.types = {op.name: op.type for ops in self.module.values() for op in ops}

    def estimate(self) -> Estimate:
        seconds = self.run(events(self.module), 1.0)
        return Estimate(seconds, dict(most(self.where)), most(self.places)[:12])

    def run(self, schedule: tuple[Event, ...], times: float) -> float:
        """-> seconds of one run; `times` is how often it is run, for the sums by kind."""
        now, free, ends = 0.0, 0.0, {}
        layer = attention_calls(schedule)

        def spend(kind: str, seconds: float, op: Op) -> None:
            nonlocal now
            now += seconds
            self.where[kind] += seconds * times
            self.places[source_place(op)] += seconds * times

        for event in schedule:
            if event.does == "loop":
                now += self.run(event.inside, times * event.times) * event.times
                free = max(free, now)
            elif event.does == "kernel":
                part = part_of_attention(event.op)
                kind = f"attention, {'forward' if part == 'forward' else 'backward'}"
                spend(kind, self.kernel(part, layer) / layer[part], event.op)
            elif event.does == "collective":
                assert event.collective
                idle = max(free - now, 0.0)
                spend(f"waits: {event.collective.kind}", idle + self.exchange(event.collective, False), event.op)
                free = now
            elif event.does == "start" and event.collective:
                free = max(now, free) + self.exchange(event.collective, True)
                ends[event.key] = (free, event.collective.kind)
            elif event.does == "start":
                ends[event.key] = (now + self.copy(event.op), "copy in memory")
            elif event.does == "wait":
                end, kind = ends.get(event.key, (now, ""))
                if end > now:
                    spend(f"waits: {kind}", end - now, event.op)
            else:
                spend("products and element-wise", self.compute(event.op), event.op)
        return now

    def compute(self, op: Op) -> float:
        chip = self.topology.chip
        if chip.platform == "tpu":
            return op.cycles / chip.clock
        if op.kind not in WORK:
            return 0.0
        moved = hlo.touched(op, self.module, self.types)
        return max(self.products(op) / (GPU_PRODUCTS * chip.flops), moved / (GPU_MEMORY * chip.hbm_rate))

    def products(self, op: Op) -> float:
        """-> operations of the matrix products in this."""
        inner = self.module.get(op.attr("calls"), [])
        if op.kind == "dot" or "__cublas$" in op.attrs:
            return self.of_product(op)
        return sum(self.of_product(o) if o.kind == "dot" else self.products(o) for o in inner if o.kind != "parameter")

    def of_product(self, op: Op) -> float:
        """-> 2 x results x contracted."""
        left = dims(self.types.get(op.operands[0], ""))
        contracted = re.search(r'lhs_contracting_dim\w*"?[=:][\[{]"?([\d,"]+)', op.attrs)
        assert contracted, f"a product that is not understood: {op}"
        return 2.0 * math.prod(dims(op.type)) * math.prod(left[int(i)] for i in re.findall(r"\d+", contracted[1]))

    def kernel(self, part: str, layer: collections.Counter[str]) -> float:
        """-> seconds of one layer's attention: two products forward; backward five in one kernel, in two kernels three
        for the queries' gradient and four for the keys'.
        """
        chip = self.topology.chip
        products = {"forward": 2, "queries": 3, "keys": 4 if layer["queries"] else 5, "all": 5}[part]
        share = chip.kernel[0 if part == "forward" else 1] * min(1.0, self.width / 128)
        return 2 * self.width * self.pairs * products / (chip.flops * share)

    def copy(self, op: Op) -> float:
        found = [bytes_ for _, bytes_ in hlo.arrays(op.type) if bytes_ > 4]
        return min(found, default=0) / self.topology.chip.hbm_rate

    def exchange(self, what: Collective, beside: bool) -> float:
        """-> seconds; `beside` other work, and by some of the compiler's emitters, one axis of the torus is used."""
        if what.group <= 1:
            return 0.0
        if self.topology.chip.platform == "cuda":
            return MESSAGE + what.sent / (GPU_LINKS * self.topology.chip.link if what.group <= NVLINK else INFINIBAND)
        link, axes = self.topology.chip.link, spanned(what.group, self.mesh, self.topology)
        if what.kind == "collective-permute":
            return MESSAGE + what.bytes_ / link
        if what.kind == "all-to-all":
            slowest = max(extent / (8 if ring else 4) for extent, ring in axes)
            return MESSAGE + slowest * what.bytes_ / link
        rates = sorted(((2 if ring else 1) * link for _, ring in axes), reverse=True)
        one = beside or what.emitter.startswith("1D")
        return MESSAGE + what.sent / (rates[0] if one else sum(rates))


def most(sums: dict[str, float]) -> list[tuple[str, float]]:
    """-> the largest first."""
    return sorted(sums.items(), key=lambda pair: -pair[1])


def attention_calls(schedule: tuple[Event, ...]) -> collections.Counter[str]:
    """-> kernels of one loop's body by what they make: those of one layer, which share its pairs.

    A layer that is computed again in the backward pass has its forward kernels there once more.
    """
    return collections.Counter(part_of_attention(event.op) for event in schedule if event.does == "kernel")


def part_of_attention(op: Op) -> str:
    """-> what a kernel makes: the output, or gradients of queries, keys, or all."""
    if is_forward(op):
        return "forward"
    return "queries" if "_dq" in op.name else "keys" if "_dkv" in op.name else "all"


def source_place(op: Op) -> str:
    """-> the end of its place in the program, which says the function and the einsum."""
    return "/".join(op.where.split("/")[-2:]) or op.kind


def dims(kind: str) -> list[int]:
    """-> of the first array of a type."""
    found = hlo.ARRAY.search(kind)
    return [int(dim) for dim in found[2].split(",")] if found and found[2] else []


def spanned(group: int, mesh: jax.sharding.Mesh, topology: Topology) -> list[tuple[int, bool]]:
    """-> axes of the torus over which such a group lies: how many chips along each, and whether they are a ring."""
    sizes = dict(mesh.shape)
    choices = [("seq",), ("model",), ("fsdp", "seq"), ("fsdp",), ("data",), ("data", "fsdp"), ("data", "fsdp", "seq")]
    names = next((c for c in choices if math.prod(sizes[n] for n in c) == group), None)
    if names is None:
        return [(group, False)]
    index = tuple(slice(None) if name in names else 0 for name in mesh.axis_names)
    coords = np.array([device.coords for device in np.ravel(mesh.devices[index])])
    extents = [len(set(column)) for column in coords.T[: len(topology.shape)]]
    rings = zip(extents, topology.shape, ring_axes(topology.shape), strict=True)
    return [(extent, ring and extent == whole) for extent, whole, ring in rings if extent > 1] or [(1, False)]
