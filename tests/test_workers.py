import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent / "longjax"
# The parent is killed while its worker is busy.
PARENT = """
import multiprocessing, os, pathlib, sys, time
from longjax.pools import process_pool
{setup}
with process_pool(1{init_worker}) as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    os.kill(os.getpid(), 9)
"""
STUDY = """
from longjax.study import workers
context = multiprocessing.get_context("spawn")
free = context.Queue()
free.put(workers.Slot((), None, 1.0))
"""


@pytest.mark.parametrize(
    ("setup", "init_worker"),
    [("", ""), (STUDY, ", workers.init_worker, context.Queue(), free, pathlib.Path(sys.argv[1])")],
)
def test_a_worker_ends_with_its_parent(tmp_path, setup, init_worker):
    """Else it would write beside the run that goes on. Both hold the pipe that is read here to its end."""
    program = PARENT.format(setup=setup, init_worker=init_worker)
    killed = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, timeout=60)
    assert killed.returncode == -9, killed.stderr
    assert killed.stdout.strip().isdigit()


def test_all_pools_end_with_their_parent():
    makers = [path.name for path in ROOT.rglob("*.py") if "ProcessPoolExecutor(" in path.read_text()]
    assert makers == ["pools.py"]
