r"""Kills a run with SIGKILL again and again, and compares its results bit by bit with those of an undisturbed run.

python -m tools.kill_test --times=20
python -m tools.kill_test --times=20 --command="python -m experiments.yarn --preset=quick --run_dir={dir}"
python -m tools.kill_test --times=20 --in_saves=0 --command="python -m experiments.evaluate \
    --checkpoint=longjax/bases/mini --tasks=needle,ruler --lengths=512 --num_samples=8 --data_dir=data/eval \
    --out_dir={dir}"

Half of the kills happen while a checkpoint is written, the others after a step, after a record or at any time. After
each kill the same command runs again. When it ends, metrics.jsonl must have every step and records.jsonl every record,
once, with the numbers of the undisturbed run. Exit code 1: some run differs.
"""

import contextlib
import dataclasses
import os
import pathlib
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

from absl import flags as absl_flags

from longjax.cli import flags
from longjax.cli.main import start
from longjax.evals.records import RECORDS, read_records
from longjax.training import metrics_writer

TRAIN = f"{sys.executable} -m experiments.pi --preset=quick --steps=24 --save_every=2 --length=256 --lengths=256"
START_TIMEOUT = 600.0  # seconds from a start to its kill, or to its end
CLOCKS = ("second", "_per_s", "mfu", "data_wait", "memory", "wall_ms")  # in names of numbers that depend on the clock


@dataclasses.dataclass(frozen=True)
class KillTestOptions:
    """What is killed, how often and when."""

    command: str = f"{TRAIN} --run_dir={{dir}}"  # command to kill, with {dir} for the directory of its run
    times: int = 20  # number of kills
    seed: int = 0  # seed of the moments of the kills
    in_saves: float = 0.5  # share of the kills that happen while a checkpoint is written
    dir: str = "runs/kill_test"  # directory of all runs; it is deleted first


class Moment(NamedTuple):
    """When to kill: once the run's directory has a new file of one of `globs`, and `delay` seconds later."""

    name: str
    globs: tuple[str, ...]
    delay: float


def random_moment(rng: random.Random, in_saves: float) -> Moment:
    """Returns a moment in a save, with this probability; else most likely after a step or a record."""
    if rng.random() < in_saves:
        return Moment("in a save", ("*.orbax-checkpoint-tmp*",), rng.uniform(0, 0.06))
    if rng.random() < 0.8:
        return Moment("at work", (metrics_writer.NAME, RECORDS), rng.uniform(0, 2))
    return Moment("at its start", (), rng.uniform(0, 8))


def has_come(folder: pathlib.Path, globs: tuple[str, ...], since: float) -> bool:
    """Returns whether a file of one of the globs is younger than the start."""
    try:
        return not globs or any(path.stat().st_mtime > since for glob in globs for path in folder.rglob(glob))
    except FileNotFoundError:  # deleted between the listing and the stat
        return False


def start_process(command: str, folder: pathlib.Path) -> subprocess.Popen[bytes]:
    """Starts the command in a process group of its own; its output goes to FOLDER.txt."""
    with folder.with_suffix(".txt").open("ab") as output:
        words = [word.format(dir=folder) for word in shlex.split(command)]
        return subprocess.Popen(words, stdout=output, stderr=output, start_new_session=True)


def run_until(command: str, folder: pathlib.Path, moment: Moment | None) -> bool:
    """Runs the command until the moment, or to its end. Returns whether it was killed."""
    since = time.time()
    process = start_process(command, folder)
    try:
        while process.poll() is None and moment and not has_come(folder, moment.globs, since):
            if time.time() - since > START_TIMEOUT:
                raise ValueError(f"{folder}: not {moment.name} after {START_TIMEOUT:.0f} seconds")
            time.sleep(0.002)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment.delay if moment else START_TIMEOUT)
    finally:
        if running := process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if not running and process.returncode:
        lines = folder.with_suffix(".txt").read_text(errors="replace").splitlines()
        raise ValueError(f"{folder}: the command ended with code {process.returncode}: {' | '.join(lines[-2:])}")
    return running


def results(folder: pathlib.Path) -> dict[str, list[Any]]:
    """Returns, by file, the numbers of every step and record that do not depend on the clock, as text: NaN is NaN."""
    steps = {path: metrics_writer.read_metrics(path.parent) for path in folder.rglob(metrics_writer.NAME)}
    records = {path: read_records(path)[0] for path in folder.rglob(RECORDS)}
    return {str(path.relative_to(folder)): without_clocks(lines) for path, lines in sorted((steps | records).items())}


def without_clocks(lines: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Returns the lines as text, without what depends on the clock."""
    return [{name: repr(x) for name, x in line.items() if not any(c in name for c in CLOCKS)} for line in lines]


def last_step(folder: pathlib.Path) -> str:
    """Returns the last step of the youngest metrics.jsonl, or "-"."""
    paths = sorted(folder.rglob(metrics_writer.NAME), key=lambda path: path.stat().st_mtime)
    steps = metrics_writer.read_metrics(paths[-1].parent) if paths else []
    return f"{steps[-1]['step']}" if steps else "-"


def new_run(root: pathlib.Path, name: str) -> pathlib.Path:
    """Returns the directory of a new run, with the tokens of the undisturbed one and nothing that it has trained."""
    folder, results_of_run = root / name, ("methods", "base", metrics_writer.NAME, RECORDS)
    if (root / "alone").exists():
        shutil.copytree(root / "alone", folder, ignore=lambda _, names: [n for n in names if n in results_of_run])
    return folder


def kill_test(options: KillTestOptions) -> None:
    """Runs, kills, compares. Exits with code 1 if a run differs from the undisturbed one."""
    root, rng = pathlib.Path(options.dir), random.Random(options.seed)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    if run_until(options.command, root / "alone", None):
        raise ValueError(f"the command did not end in {START_TIMEOUT:.0f} seconds")
    expected, kills, wrong, runs = results(root / "alone"), 0, 0, 0
    print("kill  moment        last step  run", flush=True)
    while kills < options.times:
        runs += 1
        folder = new_run(root, f"run{runs}")
        moment = random_moment(rng, options.in_saves)
        while run_until(options.command, folder, moment):
            kills += 1
            print(f"{kills:4}  {moment.name if moment else '':12}  {last_step(folder):>9}  {runs}", flush=True)
            moment = random_moment(rng, options.in_saves) if kills < options.times else None
        equal = results(folder) == expected
        wrong += not equal
        print(f"      run {runs} ended: {'equal, bit by bit' if equal else 'NOT EQUAL'}", flush=True)
    print(f"{kills} kills in {runs} runs, {wrong} of them unequal")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    options = flags.define(KillTestOptions)
    start(lambda: kill_test(options()), absl_flags.FLAGS)
