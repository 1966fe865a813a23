import pathlib
import subprocess
import sys
import time

# The parent is killed while its worker is busy.
PARENT = """
import concurrent.futures, multiprocessing, os, pathlib, sys, time
from longjax import workers
context = multiprocessing.get_context("spawn")
free = context.Queue()
free.put(workers.Slot((), None, 1.0))
start = (context.Queue(), free, pathlib.Path(sys.argv[1]))
with concurrent.futures.ProcessPoolExecutor(1, context, workers.begin, start) as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    os.kill(os.getpid(), 9)
"""


def alive(worker: str) -> bool:
    status = pathlib.Path(f"/proc/{worker}/stat")
    return status.exists() and status.read_text().split()[2] != "Z"


def test_a_worker_ends_with_its_parent(tmp_path):
    """Else it would write beside the run that goes on."""
    killed = subprocess.run([sys.executable, "-c", PARENT, tmp_path], capture_output=True, text=True, timeout=60)
    worker = killed.stdout.strip()
    assert killed.returncode == -9, killed.stderr
    patience = time.monotonic() + 30
    while alive(worker) and time.monotonic() < patience:
        time.sleep(0.05)
    assert not alive(worker)
