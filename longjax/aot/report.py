"""What is known of one compiled program, as numbers for machines and as text for people."""

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
      command: that prints this.
      setting: model, method, length, rows, mesh ...
      hbm: state by kind, foretold; `held`, `temporary` and `peak` by the compiler; `limit` of the chip.
      flops: of one run of the program, all chips together; `useful` as in flops.py.
      kernels: attention kernels of a chip, forward and backward: what is computed again is counted again.
      collectives: by kind: how many, how many beside other work, bytes that a device sends.
      step: seconds, MFU, where the time goes; None if the schedule was not asked for.
      note: what else is to be said.

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
        """-> a page."""
        title = f"{self.what} on {self.topology}: " + ", ".join(f"{key} {value}" for key, value in self.setting.items())
        parts = [title, self.memory(), self.exchanges(), self.work(), self.time(), self.note]
        return "\n\n".join(part for part in parts if part)

    def memory(self) -> str:
        names = NAMES | {"cache": "cache", "held": "compiled: state and batch", "temporary": "compiled: the rest",
                         "peak": "compiled: at its peak", "limit": "there is"}  # fmt: skip
        rows = [f"  {names[name]:<28} {bytes_ / GIB:7.2f}" for name, bytes_ in self.hbm.items()]
        return "\n".join(
            ["memory of a chip                 GiB", *rows, "  it fits" if self.fits else "  IT DOES NOT FIT"]
        )

    def exchanges(self) -> str:
        lines = [
            f"  {kind:<20} {x['count']:7.0f} {x['hidden']:7.0f} {x['sent'] / GIB:9.2f}  {', '.join(x['dtypes'])}"
            for kind, x in self.collectives.items()
        ]
        return "\n".join(["exchanges of a chip      count  hidden  GiB sent  of", *lines]) if lines else ""

    def work(self) -> str:
        said = [f"{self.flops['useful']:.3g} floating-point operations a step"] if self.flops else []
        said += [f"attention kernels: {self.kernels['forward']} forward, {self.kernels['backward']} backward"]
        return ", ".join(said)

    def time(self) -> str:
        if not self.step:
            return ""
        step = self.step
        lines = [
            f"  {kind:<30} {seconds:8.3f}" for kind, seconds in step["where"].items() if seconds > step["seconds"] / 1e3
        ]
        said = [f"estimate: {step['seconds']:.3g} s, {step['tokens_per_second_per_chip']:.0f} tokens/s a chip"]
        said += [f"MFU {step['mfu']:.2f}"] if "mfu" in step else []
        said += [f"1 B tokens: {step['chip_hours_of_1B_tokens']:.0f} chip-hours"] if self.what == "train" else []
        return "\n".join([", ".join(said), *lines])


def sums(walked: Iterable[tuple[Event, int]]) -> dict[str, dict[str, Any]]:
    """-> collectives by kind, the largest first. Those of a few numbers (norms, metrics) are left out."""
    found: dict[str, Any] = collections.defaultdict(lambda: {"count": 0, "hidden": 0, "sent": 0.0, "dtypes": []})
    for event, times in walked:
        what = event.collective
        if event.does in ("start", "collective") and what and what.group > 1 and what.bytes_ > 4096:
            one = found[what.kind]
            one["count"] += times
            one["hidden"] += times * (event.does == "start")
            one["sent"] += times * what.sent
            one["dtypes"] = sorted({*one["dtypes"], what.dtype})
    return dict(sorted(found.items(), key=lambda pair: -pair[1]["sent"]))


def kernels(walked: Iterable[tuple[Event, int]]) -> dict[str, int]:
    found = {"forward": 0, "backward": 0}
    for event, times in walked:
        if event.does == "kernel":
            found["forward" if is_forward(event.op) else "backward"] += times
    return found


def save_plan_files(plan: AotPlan, folder: pathlib.Path, name: str) -> None:
    """Writes the plan, and the table of all plans of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_atomically(folder / f"{name}.json", (json.dumps(dataclasses.asdict(plan), indent=1) + "\n").encode())
    plans = [AotPlan(**json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
    files.write_atomically(folder / "PLANS.md", plan_table(plans).encode())


HEAD = """# Compiled ahead of time, on a machine with two cores and no accelerator

HBM is what the compiler says that a chip needs at its peak; step, MFU and chip-hours (of the paper's run of 1 B
tokens) are estimates from the compiler's schedule, never measured: `longjax/plan/roofline.py` says how they are made.
TPUs are compiled for with LIBTPU_INIT_ARGS as in `longjax/torus.py`. A step of `prefill` is one pass over a chunk of
all prompts, of `decode` one token of every row.

| program | chips | model | rows x length | mesh | remat | HBM GiB, of | step s | MFU | chip-hours | |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def plan_table(plans: list[AotPlan]) -> str:
    return HEAD + "".join(map(row, plans)) + "\nThe commands:\n\n" + "".join(f"    {plan.command}\n" for plan in plans)


def row(plan: AotPlan) -> str:
    step, set_ = plan.step or {}, plan.setting
    numbers = [
        f"{step[name]:{form}}" if name in step else "-"
        for name, form in (("seconds", ".3g"), ("mfu", ".2f"), ("chip_hours_of_1B_tokens", ".0f"))
    ]
    hbm = f"{plan.hbm['peak'] / GIB:.1f} of {plan.hbm['limit'] / GIB:.1f}"
    cells = [
        plan.what, plan.topology, f"{set_['model']}, {set_['method']}", f"{set_['rows']} x {set_['length']}",
        set_["mesh"], set_["remat"], hbm, *numbers, "fits" if plan.fits else "does not fit",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |\n"
