"""A plan of one compiled program, as JSON and as text."""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterable
from typing import Any

from longjax import files
from longjax.aot.events import Event, is_forward
from longjax.aot.topology import GIB
from longjax.training.memory_estimate import NAMES

BILLION = 10**9  # tokens of the paper's runs


@dataclasses.dataclass(frozen=True)
class AotPlan:
    """One program on one machine. Bytes are those of a device; seconds and what follows from them are estimates.

    Attributes:
      what: train, prefill or decode.
      topology: of the machine, "v5e:16x16".
      command: that prints this plan.
      setting: model, method, length, rows, mesh ...
      fits: whether the program fits into a device's memory.
      hbm: estimated state by kind; `held`, `temporary` and `peak` by the compiler; `limit` of the chip.
      flops: of one run of the program, all chips together; `useful` as in flops.py.
      kernels: attention kernels of a chip, forward and backward, those computed again included.
      collectives: by kind: number, number hidden behind other work, bytes that a device sends, types.
      step: seconds, MFU, seconds by kind of work and by source; None without a schedule.
      note: advice on a program that does not fit.
      versions: of the compilers.

    """

    what: str
    topology: str
    command: str
    setting: dict[str, Any]
    fits: bool
    hbm: dict[str, float]
    flops: dict[str, float]
    kernels: dict[str, int]
    collectives: dict[str, dict[str, Any]]
    step: dict[str, Any] | None
    note: str
    versions: dict[str, str]

    def text(self) -> str:
        """Returns the plan as a page of text."""
        title = f"{self.what} on {self.topology}: " + ", ".join(f"{key} {value}" for key, value in self.setting.items())
        sections = [title, self.memory_text(), self.collectives_text(), self.work_text(), self.time_text(), self.note]
        return "\n\n".join(section for section in sections if section)

    def memory_text(self) -> str:
        """Returns the table of a chip's memory."""
        names = NAMES | {"cache": "cache", "held": "compiled: state and batch", "temporary": "compiled: the rest",
                         "peak": "compiled: at its peak", "limit": "available"}  # fmt: skip
        rows = [f"  {names[name]:<28} {bytes_ / GIB:7.2f}" for name, bytes_ in self.hbm.items()]
        return "\n".join(
            ["memory of a chip                 GiB", *rows, "  it fits" if self.fits else "  it does not fit"]
        )

    def collectives_text(self) -> str:
        """Returns the table of a chip's collectives."""
        lines = [
            f"  {kind:<20} {x['count']:7.0f} {x['hidden']:7.0f} {x['sent'] / GIB:9.2f}  {', '.join(x['dtypes'])}"
            for kind, x in self.collectives.items()
        ]
        return "\n".join(["collectives of a chip    count  hidden  GiB sent  of", *lines]) if lines else ""

    def work_text(self) -> str:
        """Returns a line on floating-point operations and attention kernels."""
        counts = [f"{self.flops['useful']:.3g} floating-point operations a step"] if self.flops else []
        counts += [f"attention kernels: {self.kernels['forward']} forward, {self.kernels['backward']} backward"]
        return ", ".join(counts)

    def time_text(self) -> str:
        """Returns the estimate of time, and where it goes; "" without one."""
        if not self.step:
            return ""
        step = self.step
        lines = [
            f"  {kind:<30} {seconds:8.3f}" for kind, seconds in step["where"].items() if seconds > step["seconds"] / 1e3
        ]
        head = [f"estimate: {step['seconds']:.3g} s, {step['tokens_per_second_per_chip']:.0f} tokens/s a chip"]
        head += [f"MFU {step['mfu']:.2f}"] if "mfu" in step else []
        head += [f"1 B tokens: {step['chip_hours_of_1B_tokens']:.0f} chip-hours"] if self.what == "train" else []
        return "\n".join([", ".join(head), *lines])


def collective_sums(walked: Iterable[tuple[Event, int]]) -> dict[str, dict[str, Any]]:
    """Returns the sums over collectives by kind, the largest first; those of a few numbers (metrics) are left out.

    `walked` are events with their number of runs (`events.walk`).
    """
    sums: dict[str, Any] = collections.defaultdict(lambda: {"count": 0, "hidden": 0, "sent": 0.0, "dtypes": []})
    for event, times in walked:
        collective = event.collective
        if event.does not in ("start", "collective") or not collective:
            continue
        if collective.group > 1 and collective.bytes_ > 4096:
            kind = sums[collective.kind]
            kind["count"] += times
            kind["hidden"] += times * (event.does == "start")
            kind["sent"] += times * collective.sent
            kind["dtypes"] = sorted({*kind["dtypes"], collective.dtype})
    return dict(sorted(sums.items(), key=lambda pair: -pair[1]["sent"]))


def kernel_counts(walked: Iterable[tuple[Event, int]]) -> dict[str, int]:
    """Returns the number of attention kernels, forward and backward."""
    counts = {"forward": 0, "backward": 0}
    for event, times in walked:
        if event.does == "kernel":
            counts["forward" if is_forward(event.op) else "backward"] += times
    return counts


def save_plan_files(plan: AotPlan, folder: pathlib.Path, name: str) -> None:
    """Writes NAME.json, and PLANS.md with the table of all plans of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_atomically(folder / f"{name}.json", (json.dumps(dataclasses.asdict(plan), indent=1) + "\n").encode())
    plans = [AotPlan(**json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
    files.write_atomically(folder / "PLANS.md", plan_table(plans).encode())


TABLE_HEAD = """# Compiled ahead of time, on a machine with two cores and no accelerator

HBM is a chip's memory at its peak, by the compiler; step, MFU and chip-hours (of the paper's run of 1 B tokens) are
estimates from the compiler's schedule, never measured (`longjax/aot/roofline.py`). TPUs are compiled for with the
LIBTPU_INIT_ARGS of `longjax/sharding/xla_flags.py`. A step of `prefill` is one pass over a chunk of all prompts, of
`decode` one token of every row.

| program | chips | model | rows x length | mesh | remat | HBM GiB, of | step s | MFU | chip-hours | |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def plan_table(plans: list[AotPlan]) -> str:
    """Returns PLANS.md."""
    return (
        TABLE_HEAD
        + "".join(map(plan_row, plans))
        + "\nThe commands:\n\n"
        + "".join(f"    {plan.command}\n" for plan in plans)
    )


def plan_row(plan: AotPlan) -> str:
    """Returns the plan's row of the table."""
    step, setting = plan.step or {}, plan.setting
    numbers = [
        f"{step[name]:{form}}" if name in step else "-"
        for name, form in (("seconds", ".3g"), ("mfu", ".2f"), ("chip_hours_of_1B_tokens", ".0f"))
    ]
    hbm = f"{plan.hbm['peak'] / GIB:.1f} of {plan.hbm['limit'] / GIB:.1f}"
    cells = [
        plan.what, plan.topology, f"{setting['model']}, {setting['method']}",
        f"{setting['rows']} x {setting['length']}", setting["mesh"], setting["remat"], hbm, *numbers,
        "fits" if plan.fits else "does not fit",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |\n"
