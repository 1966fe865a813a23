import subprocess
import sys

# The parent is killed while its worker is busy.
PARENT = """
import concurrent.futures, multiprocessing, os, pathlib, sys, time
from longjax.study import workers
context = multiprocessing.get_context("spawn")
free = context.Queue()
free.put(workers.Slot((), None, 1.0))
start = (context.Queue(), free, pathlib.Path(sys.argv[1]))
with concurrent.futures.ProcessPoolExecutor(1, context, workers.init_worker, start) as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    os.kill(os.getpid(), 9)
"""


def test_a_worker_ends_with_its_parent(tmp_path):
    """Else it would write beside the run that goes on. Both hold the pipe that is read here to its end."""
    killed = subprocess.run([sys.executable, "-c", PARENT, tmp_path], capture_output=True, text=True, timeout=60)
    assert killed.returncode == -9, killed.stderr
    assert killed.stdout.strip().isdigit()
