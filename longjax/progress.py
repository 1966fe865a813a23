"""One line that says how far a long job is, how fast it goes, and when it will be done."""

import time
from typing import Protocol


class ProgressFn(Protocol):
    """Told by a job how much of it is done, from 0 to 1, and what it is doing."""

    def __call__(self, fraction: float, doing: str) -> None: ...


class MultiProgress:
    """Several jobs, each with a share of the whole; prints a status line, at most once a period.

    Work that was done before the start (a resumed run) does not count for the estimate.
    """

    def __init__(self, shares: dict[str, float], period: float = 5.0):
        total = sum(shares.values())
        self.shares = {name: share / total for name, share in shares.items()}
        self.done = dict.fromkeys(shares, 0.0)
        self.began, self.printed, self.period = time.time(), 0.0, period
        self.before: float | None = None

    def update(self, name: str, fraction: float, doing: str) -> None:
        """`fraction` of job `name` is done."""
        self.done[name] = fraction
        now = time.time()
        if self.before is None:
            self.before = self.whole()
        if now - self.printed >= self.period or fraction >= 1:
            self.printed = now
            print(
                f"[{format_duration(now - self.began)} | {self.whole():4.0%} | {self.remaining(now)}]  {name}: {doing}",
                flush=True,
            )

    def skip(self, name: str) -> None:
        """The job was done in an earlier run."""
        self.done[name] = 1.0

    def whole(self) -> float:
        return sum(share * self.done[name] for name, share in self.shares.items())

    def remaining(self, now: float) -> str:
        gained = self.whole() - (self.before or 0.0)
        if gained < 0.01:
            return "ETA --:--"
        return f"ETA {format_duration((now - self.began) * (1 - self.whole()) / gained)}"


def format_duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class ThroughputProgress:
    """A Report for one job of so many units: how many are done, how fast, and when all will be."""

    def __init__(self, name: str, count: float, unit: str):
        self.name, self.count, self.unit = name, count, unit
        self.board, self.began, self.before = MultiProgress({name: 1.0}), time.time(), None

    def __call__(self, fraction: float, doing: str) -> None:
        if self.before is None:
            self.before = fraction  # of this, the first part, nobody knows whether it was done before the start
        rate = (fraction - self.before) * self.count / (time.time() - self.began + 1e-9)
        said = f"{fraction * self.count:,.0f} {self.unit}, {rate:,.0f} {self.unit}/s, {doing}"
        self.board.update(self.name, fraction, said)


def no_progress(fraction: float, doing: str) -> None:
    """A Report that nobody reads."""


class LineProgress:
    """A Report for one job alone: at most a line a second, and the last one."""

    def __init__(self, name: str, period: float = 1.0):
        self.name, self.period, self.printed = name, period, 0.0

    def __call__(self, fraction: float, doing: str) -> None:
        if (now := time.time()) - self.printed >= self.period or fraction >= 1:
            self.printed = now
            print(f"[{fraction:4.0%}]  {self.name}: {doing}", flush=True)


def sub_progress(report: ProgressFn, start: float, end: float, saying: str = "") -> ProgressFn:
    """-> what a part of the job, from `start` to `end` of it, is told to report to."""
    return lambda fraction, doing: report(start + (end - start) * fraction, saying + doing)
