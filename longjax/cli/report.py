"""Writes tables and figures of all evaluations below a directory, also of a study that is not finished.

  longjax-report --dir=runs
  longjax-report --dir=runs/demo --out=/tmp/report

report.md also lists what cannot be compared, and the runs and settings that the numbers come from.
"""

import dataclasses

from absl import flags as absl_flags

from longjax import report
from longjax.cli import flags
from longjax.cli.main import start


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """What to report, and where."""

    dir: str = "runs/demo"  # directory of a study (it has settings.json), or with evaluations at any depth
    out: str | None = None  # directory for report.md, tables/*.csv and figures/*.png; None: --dir


def main(values: absl_flags.FlagValues = absl_flags.FLAGS, argv: list[str] | None = None) -> None:
    """The command longjax-report."""
    options = flags.define(ReportOptions, values)

    def run() -> None:
        chosen = options()
        print(report.write_report(chosen.dir, chosen.out))
        print(f"\n{chosen.out or chosen.dir}/report.md")

    start(run, values, argv, __doc__)
