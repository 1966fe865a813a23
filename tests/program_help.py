"""What --help of many programs prints, as JSON: python tests/program_help.py "python -m tools.plan" longjax-plan ...

The libraries are imported once; each program then runs in a fork.
"""

import contextlib
import importlib
import importlib.metadata
import json
import os
import runpy
import sys
import tempfile
import traceback

import longjax.cli.evaluate
import longjax.cli.study  # noqa: F401


def run(program: str, flag: str) -> None:
    """As the shell would, in this process."""
    words = program.split()
    sys.argv = [words[0], *words[1:], flag]
    if words[:2] == ["python", "-m"]:
        sys.argv = [words[2], *words[3:], flag]
        sys.path.insert(0, "")
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    else:
        (entry,) = importlib.metadata.entry_points(group="console_scripts", name=words[0])
        entry.load()()


def help_of(program: str, flag: str) -> str:
    """-> what a fork prints."""
    with tempfile.TemporaryFile("w+") as out:
        if (child := os.fork()) == 0:
            try:
                with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
                    run(program, flag)
            except BaseException:
                traceback.print_exc()
            out.flush()
            os._exit(0)
        os.waitpid(child, 0)
        out.seek(0)
        return out.read()


if __name__ == "__main__":
    print(
        json.dumps({program: help_of(program, "--helpfull") or help_of(program, "--help") for program in sys.argv[1:]})
    )
