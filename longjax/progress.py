"""Progress of long jobs as lines of text: share done, speed, remaining time."""

import time
from typing import Protocol


class ProgressFn(Protocol):
    """A callback for the progress of a job."""

    def __call__(self, fraction: float, doing: str) -> None:
        """Reports that this share of the job, from 0 to 1, is done, and what it does now."""
        ...


class MultiProgress:
    """Progress of several jobs together; prints a status line, at most once a period.

    The remaining time is estimated from the work of this run alone, not from what a resumed run finds done.

    Args:
      shares: the cost of each job by its name, in any unit.
      period: seconds between lines.

    """

    def __init__(self, shares: dict[str, float], period: float = 5.0):
        total = sum(shares.values())
        self.shares = {name: share / total for name, share in shares.items()}
        self.done = dict.fromkeys(shares, 0.0)
        self.began, self.printed, self.period = time.time(), 0.0, period
        self.before: float | None = None

    def update(self, name: str, fraction: float, doing: str) -> None:
        """Reports that this share of job `name`, from 0 to 1, is done, and what it does now."""
        self.done[name] = fraction
        now = time.time()
        if self.before is None:
            self.before = self.share_done()
        if now - self.printed >= self.period or fraction >= 1:
            self.printed = now
            elapsed, done = format_duration(now - self.began), self.share_done()
            print(f"[{elapsed} | {done:4.0%} | {self.remaining(now)}]  {name}: {doing}", flush=True)

    def skip(self, name: str) -> None:
        """Counts job `name` as done by an earlier run."""
        self.done[name] = 1.0

    def share_done(self) -> float:
        """Returns the share of all jobs that is done, from 0 to 1."""
        return sum(share * self.done[name] for name, share in self.shares.items())

    def remaining(self, now: float) -> str:
        """Returns the estimated time to the end, as "ETA 1:02:03"."""
        gained = self.share_done() - (self.before or 0.0)
        if gained < 0.01:
            return "ETA --:--"
        return f"ETA {format_duration((now - self.began) * (1 - self.share_done()) / gained)}"


def format_duration(seconds: float) -> str:
    """Returns a duration as 2:03 (minutes and seconds) or 1:02:03."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class ThroughputProgress:
    """Progress of one job, with its units done, units a second and remaining time.

    Args:
      name: of the job.
      count: units of the whole job.
      unit: what is counted, as "tokens".

    """

    def __init__(self, name: str, count: float, unit: str):
        self.name, self.count, self.unit = name, count, unit
        self.progress, self.began, self.before = MultiProgress({name: 1.0}), time.time(), None

    def __call__(self, fraction: float, doing: str) -> None:
        if self.before is None:
            self.before = fraction  # an earlier run may have done all of this
        rate = (fraction - self.before) * self.count / (time.time() - self.began + 1e-9)
        status = f"{fraction * self.count:,.0f} {self.unit}, {rate:,.0f} {self.unit}/s, {doing}"
        self.progress.update(self.name, fraction, status)


def no_progress(fraction: float, doing: str) -> None:
    """Ignores progress."""


class LineProgress:
    """Progress of one job in lines, at most one a period (seconds), and one when it is done."""

    def __init__(self, name: str, period: float = 1.0):
        self.name, self.period, self.printed = name, period, 0.0

    def __call__(self, fraction: float, doing: str) -> None:
        if (now := time.time()) - self.printed >= self.period or fraction >= 1:
            self.printed = now
            print(f"[{fraction:4.0%}]  {self.name}: {doing}", flush=True)


def sub_progress(report: ProgressFn, start: float, end: float, prefix: str = "") -> ProgressFn:
    """Returns the callback for a part of a job, from share `start` to share `end` of it; `prefix` precedes its text."""
    return lambda fraction, doing: report(start + (end - start) * fraction, prefix + doing)
