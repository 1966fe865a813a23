import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from longjax import locks
from longjax.locks import locked

HOLD = """import pathlib, sys, time
from longjax.locks import locked
with locked(pathlib.Path(sys.argv[1]), "--run_dir"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """-> another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_folder_has_one_owner(tmp_path, holder):
    said = rf"--run_dir={tmp_path} is in use by process {holder.pid} on .*: wait until"
    with pytest.raises(ValueError, match=said), locked(tmp_path, "--run_dir"):
        pass


def test_a_killed_owner_leaves_no_lock(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with locked(tmp_path, "--run_dir"):
        assert (tmp_path / locks.NAME).exists()
    assert not (tmp_path / locks.NAME).exists()


def test_one_may_wait(tmp_path, holder, capsys):
    start = time.monotonic()
    multiprocessing.get_context("fork").Process(target=lambda: (time.sleep(0.5), os.kill(holder.pid, 9))).start()
    with locked(tmp_path, "--store", wait=True):
        assert time.monotonic() - start > 0.3
    assert "waiting until it ends" in capsys.readouterr().err


def add_one(path):
    for _ in range(25):
        with locked(path.parent, "--store", wait=True):
            count = int(path.read_text())
            time.sleep(0.001)
            path.write_text(str(count + 1))


def test_no_two_are_ever_inside(tmp_path):
    """Also while owners come and go, and remove the file."""
    (tmp_path / "count").write_text("0")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add_one, args=(tmp_path / "count",)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "count").read_text() == "100"


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file/x cannot be written"), locked(tmp_path / "file/x", "--run_dir"):
        pass
