r"""Kills a run with SIGKILL again and again, and compares what it wrote, bit for bit, with that of a run left alone.

python -m tools.kill_test --times=20
python -m tools.kill_test --times=20 --command="python -m experiments.yarn --preset=quick --run_dir={dir}"
python -m tools.kill_test --times=20 --in_saves=0 --command="python -m experiments.evaluate \
    --checkpoint=longjax/bases/mini --tasks=needle,ruler --lengths=512 --num_samples=8 --data_dir=data/eval \
    --out_dir={dir}"

Half of the kills wait for a checkpoint that is being written, others for a step, an answer or nothing. After each the
same command runs again; when it ends, all steps must be in metrics.jsonl and all answers in records.jsonl, once, with
the numbers of the run left alone.
"""

import contextlib
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

from absl import app, flags

from longjax.evals.records import RECORDS, read_records
from longjax.training import metrics_writer

TRAIN = "--steps=24 --save_every=2 --length=256 --lengths=128"
COMMAND = flags.DEFINE_string(
    "command",
    f"{sys.executable} -m experiments.pi --preset=quick --run_dir={{dir}} {TRAIN}",
    "With {dir} for its folder.",
)
TIMES = flags.DEFINE_integer("times", 20, "Kills.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
IN_SAVES = flags.DEFINE_float("in_saves", 0.5, "Share of the kills that wait for a checkpoint.", 0, 1)
DIR = flags.DEFINE_string("dir", "runs/kill_test", "Folder of all runs; made anew.")

PATIENCE = 600.0  # seconds that one start may take
CLOCKS = (
    "second",
    "_per_s",
    "mfu",
    "data_wait",
    "memory",
    "wall_ms",
)  # in the names of numbers that differ from run to run


class Moment(NamedTuple):
    """Something in the run's folder of one of the `globs` that is younger than the start, and some seconds more."""

    name: str
    globs: tuple[str, ...]
    more: float


def moment(rng: random.Random) -> Moment:
    """Some in a save; of the others, most in the middle of the work."""
    if rng.random() < IN_SAVES.value:
        return Moment("in a save", ("*.orbax-checkpoint-tmp*",), rng.uniform(0, 0.06))
    if rng.random() < 0.8:
        return Moment("at work", (metrics_writer.NAME, RECORDS), rng.uniform(0, 2))
    return Moment("at its start", (), rng.uniform(0, 8))


def reached(folder: pathlib.Path, globs: tuple[str, ...], since: float) -> bool:
    try:
        return not globs or any(path.stat().st_mtime > since for glob in globs for path in folder.rglob(glob))
    except FileNotFoundError:  # it was there a moment ago
        return False


def start(folder: pathlib.Path) -> subprocess.Popen[bytes]:
    """The command in a process group of its own; what it says goes to a file beside its folder."""
    with folder.with_suffix(".txt").open("ab") as said:
        words = [word.format(dir=folder) for word in shlex.split(COMMAND.value)]
        return subprocess.Popen(words, stdout=said, stderr=said, start_new_session=True)


def killed(folder: pathlib.Path, when: Moment | None) -> bool:
    """Starts the command and kills it at that moment. -> False if it ended well before."""
    since = time.time()
    run = start(folder)
    try:
        while run.poll() is None and when and not reached(folder, when.globs, since):
            if time.time() - since > PATIENCE:
                raise SystemExit(f"{folder}: not {when.name} for {PATIENCE:.0f} seconds")
            time.sleep(0.002)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(when.more if when else PATIENCE)
    finally:
        if late := run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    if not late and run.returncode:
        said = folder.with_suffix(".txt").read_text(errors="replace").splitlines()
        raise SystemExit(f"{folder}: the command ended with code {run.returncode}: {' | '.join(said[-2:])}")
    return late


def numbers(folder: pathlib.Path) -> dict[str, list[Any]]:
    """-> by file, what every step or answer said, but for what a clock said. As text, so that NaN is NaN."""
    steps = {path: metrics_writer.read_metrics(path.parent) for path in folder.rglob(metrics_writer.NAME)}
    answers = {path: read_records(path)[0] for path in folder.rglob(RECORDS)}
    return {str(path.relative_to(folder)): exact(records) for path, records in sorted((steps | answers).items())}


def exact(records: list[dict[str, Any]]) -> list[Any]:
    return [{name: repr(x) for name, x in r.items() if not any(clock in name for clock in CLOCKS)} for r in records]


def last_step(folder: pathlib.Path) -> str:
    """-> the last step of the youngest log."""
    found = sorted(folder.rglob(metrics_writer.NAME), key=lambda path: path.stat().st_mtime)
    steps = metrics_writer.read_metrics(found[-1].parent) if found else []
    return f"{steps[-1]['step']}" if steps else "-"


def fresh(root: pathlib.Path, name: str) -> pathlib.Path:
    """-> a folder with the tokens of the run left alone, and nothing that it trained."""
    folder, alone = root / name, root / "alone"
    if alone.exists():
        shutil.copytree(
            alone,
            folder,
            ignore=lambda _, names: [n for n in names if n in ("methods", "base", metrics_writer.NAME, RECORDS)],
        )
    return folder


def main(argv: list[str]) -> None:
    root, rng = pathlib.Path(DIR.value), random.Random(SEED.value)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    if killed(root / "alone", None):
        raise SystemExit(f"the command did not end in {PATIENCE:.0f} seconds")
    expected, kills, wrong, run = numbers(root / "alone"), 0, 0, 0
    print("kill  moment        last step  run", flush=True)
    while kills < TIMES.value:
        run += 1
        folder = fresh(root, f"run{run}")
        while killed(folder, when := moment(rng) if kills < TIMES.value else None):
            kills += 1
            print(f"{kills:4}  {when.name if when else '':12}  {last_step(folder):>9}  {run}", flush=True)
        same = numbers(folder) == expected
        wrong += not same
        print(f"      run {run} ended: {'equal, bit for bit' if same else 'NOT EQUAL'}", flush=True)
    print(f"{kills} kills in {run} runs, {wrong} of them unequal")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    app.run(main)
