"""Estimates how long a compiled program takes on chips that are not at hand; nothing is measured.

The compiler's schedule is followed event by event: its own cycles for what it has fused (TPU), or operations and
bytes over the chip's rates (GPU); attention kernels by their pairs; collectives by their bytes over the links that
their group spans. What is started early and waited for late costs what is not hidden.
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
    """An estimate of time.

    Attributes:
      seconds: of one run of the program.
      where: seconds by kind of work, the most first.
      places: the same by source (`Op.source`), the largest of them.

    """

    seconds: float
    where: dict[str, float]
    places: list[tuple[str, float]]


@dataclasses.dataclass
class StepClock:
    """Follows a schedule on one device.

    Attributes:
      topology: the chips.
      mesh: devices by axis.
      module: the compiled program.
      pairs: queries times visible keys of one layer's attention on one device, over all of its heads.
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
        """Returns the time of one run of the program."""
        seconds = self.run(events(self.module), 1.0)
        return Estimate(seconds, dict(largest_first(self.where)), largest_first(self.places)[:12])

    def run(self, schedule: tuple[Event, ...], times: float) -> float:
        """Returns the seconds of one run of a schedule, which runs `times` times, and adds to the sums by kind."""
        now, free, ends = 0.0, 0.0, {}  # free: when the links have nothing more to send
        layer = attention_calls(schedule)

        def spend(kind: str, seconds: float, op: Op) -> None:
            nonlocal now
            now += seconds
            self.where[kind] += seconds * times
            self.places[short_source(op)] += seconds * times

        for event in schedule:
            if event.does == "loop":
                now += self.run(event.inside, times * event.times) * event.times
                free = max(free, now)
            elif event.does == "kernel":
                output = kernel_output(event.op)
                kind = f"attention, {'forward' if output == 'forward' else 'backward'}"
                spend(kind, self.kernel_seconds(output, layer) / layer[output], event.op)
            elif event.does == "collective":
                assert event.collective
                idle = max(free - now, 0.0)
                spend(
                    f"waits: {event.collective.kind}", idle + self.collective_seconds(event.collective, False), event.op
                )
                free = now
            elif event.does == "start" and event.collective:
                free = max(now, free) + self.collective_seconds(event.collective, True)
                ends[event.key] = (free, event.collective.kind)
            elif event.does == "start":
                ends[event.key] = (now + self.copy_seconds(event.op), "copy in memory")
            elif event.does == "wait":
                end, kind = ends.get(event.key, (now, ""))
                if end > now:
                    spend(f"waits: {kind}", end - now, event.op)
            else:
                spend("products and element-wise", self.compute_seconds(event.op), event.op)
        return now

    def compute_seconds(self, op: Op) -> float:
        """Returns the seconds of computation: by the compiler's cycles on TPUs, by the roofline on GPUs."""
        chip = self.topology.chip
        if chip.platform == "tpu":
            return op.cycles / chip.clock
        if op.kind not in WORK:
            return 0.0
        moved = hlo.accessed_bytes(op, self.module, self.types)
        return max(self.matmul_flops(op) / (GPU_PRODUCTS * chip.flops), moved / (GPU_MEMORY * chip.hbm_rate))

    def matmul_flops(self, op: Op) -> float:
        """Returns the floating-point operations of the matrix products in an instruction."""
        inner = self.module.get(op.attr("calls"), [])
        if op.kind == "dot" or "__cublas$" in op.attrs:
            return self.dot_flops(op)
        return sum(
            self.dot_flops(o) if o.kind == "dot" else self.matmul_flops(o) for o in inner if o.kind != "parameter"
        )

    def dot_flops(self, op: Op) -> float:
        """Returns 2 x results x contracted of one matrix product."""
        left = dims(self.types.get(op.operands[0], ""))
        contracted = re.search(r'lhs_contracting_dim\w*"?[=:][\[{]"?([\d,"]+)', op.attrs)
        assert contracted, f"a product in an unknown notation: {op}"
        return 2.0 * math.prod(dims(op.type)) * math.prod(left[int(i)] for i in re.findall(r"\d+", contracted[1]))

    def kernel_seconds(self, output: str, layer: collections.Counter[str]) -> float:
        """Returns the seconds of one layer's attention kernels with this output.

        There are two products forward; backward five in one kernel, in two kernels three for the queries' gradient
        and four for the keys'.
        """
        chip = self.topology.chip
        products = {"forward": 2, "queries": 3, "keys": 4 if layer["queries"] else 5, "all": 5}[output]
        share = chip.kernel[0 if output == "forward" else 1] * min(1.0, self.width / 128)
        return 2 * self.width * self.pairs * products / (chip.flops * share)

    def copy_seconds(self, op: Op) -> float:
        """Returns the seconds of an asynchronous copy in memory."""
        sizes = [bytes_ for _, bytes_ in hlo.arrays(op.type) if bytes_ > 4]
        return min(sizes, default=0) / self.topology.chip.hbm_rate

    def collective_seconds(self, collective: Collective, hidden: bool) -> float:
        """Returns the seconds of an exchange.

        One that is hidden behind other work, or made by some of the compiler's emitters, uses one axis of the torus.
        """
        if collective.group <= 1:
            return 0.0
        if self.topology.chip.platform == "cuda":
            return MESSAGE + collective.sent / (
                GPU_LINKS * self.topology.chip.link if collective.group <= NVLINK else INFINIBAND
            )
        link, axes = self.topology.chip.link, spanned(collective.group, self.mesh, self.topology)
        if collective.kind == "collective-permute":
            return MESSAGE + collective.bytes_ / link
        if collective.kind == "all-to-all":
            slowest = max(extent / (8 if ring else 4) for extent, ring in axes)
            return MESSAGE + slowest * collective.bytes_ / link
        rates = sorted(((2 if ring else 1) * link for _, ring in axes), reverse=True)
        one_axis = hidden or collective.emitter.startswith("1D")
        return MESSAGE + collective.sent / (rates[0] if one_axis else sum(rates))


def largest_first(sums: dict[str, float]) -> list[tuple[str, float]]:
    """Returns the sums in descending order."""
    return sorted(sums.items(), key=lambda pair: -pair[1])


def attention_calls(schedule: tuple[Event, ...]) -> collections.Counter[str]:
    """Returns the number of kernels of one loop's body by their output: those of one layer, which share its pairs.

    A layer that is computed again in the backward pass has its forward kernels there once more.
    """
    return collections.Counter(kernel_output(event.op) for event in schedule if event.does == "kernel")


def kernel_output(op: Op) -> str:
    """Returns what an attention kernel computes: forward, or the gradient of queries, keys, or all."""
    if is_forward(op):
        return "forward"
    return "queries" if "_dq" in op.name else "keys" if "_dkv" in op.name else "all"


def short_source(op: Op) -> str:
    """Returns the end of an instruction's source, which names the function and the einsum."""
    return "/".join(op.source.split("/")[-2:]) or op.kind


def dims(type_: str) -> list[int]:
    """Returns the sizes of the axes of the first array in a type."""
    match = hlo.ARRAY.search(type_)
    return [int(dim) for dim in match[2].split(",")] if match and match[2] else []


def spanned(group: int, mesh: jax.sharding.Mesh, topology: Topology) -> list[tuple[int, bool]]:
    """Returns the number of chips along each axis of the torus that a group spans, and whether they are a ring."""
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
