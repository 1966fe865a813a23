"""What is built installs alone: without the repository, the package and its commands work."""

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
COMMANDS = ("convert", "evaluate", "plan", "prepare-data", "report", "study", "train")
NOT_SOURCE = shutil.ignore_patterns(".git", ".venv", ".*_cache", "build", "dist", "runs", "*.egg-info", "__pycache__")


def run(*command, cwd, **environment):
    """-> what the command prints; it must succeed."""
    env = {name: x for name, x in os.environ.items() if name != "PYTHONPATH"} | environment
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """-> a folder with the source distribution and the wheel that is built from it, as pip does it."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, folder / "source", ignore=NOT_SOURCE)
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    run(sys.executable, "-c", build, cwd=folder / "source")
    (sdist,) = folder.glob("*.tar.gz")
    wheel = ("wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", f"--wheel-dir={folder}")
    run(sys.executable, "-m", "pip", *wheel, sdist, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def installed(built):
    """-> a folder with the wheel alone; what it depends on comes from this environment."""
    (wheel,) = built.glob("*.whl")
    install = ("install", "--quiet", "--no-deps", "--no-index", f"--target={built / 'site'}")
    run(sys.executable, "-m", "pip", *install, wheel, cwd=built)
    return built / "site"


def test_the_source_distribution_is_the_repository(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"Makefile", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "mkdocs.yml", ".ci/run"}
    for room in ("longjax", "experiments", "tools", "benchmarks", "tests", "docs", "results"):
        here = (path for path in (ROOT / room).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        wanted |= {str(path.relative_to(ROOT)) for path in here}
    assert wanted - files == set()


def test_the_wheel_is_the_package(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        files = set(archive.namelist())
    assert {name.partition("/")[0] for name in files if ".dist-info" not in name} == {"longjax"}
    here = (path for path in (ROOT / "longjax").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert {str(path.relative_to(ROOT)) for path in here} - files == set()


def test_every_command_has_its_help(installed, tmp_path):
    (package,) = importlib.metadata.distributions(name="longjax", path=[str(installed)])
    assert sorted(entry.name for entry in package.entry_points) == sorted(f"longjax-{name}" for name in COMMANDS)
    for name in COMMANDS:
        said = run(installed / "bin" / f"longjax-{name}", "--help", cwd=tmp_path, PYTHONPATH=str(installed))
        assert f"longjax-{name}" in said
        assert name == "train" or "--" in said


def test_the_study_runs(installed, tmp_path):
    """With the base that the wheel holds, and nothing of the repository."""
    where = "import longjax, pathlib; print(pathlib.Path(longjax.__file__).parents[1])"
    assert run(sys.executable, "-c", where, cwd=tmp_path, PYTHONPATH=str(installed)).strip() == str(installed)
    flags = ("--preset=quick", "--arms=base", "--lengths=256", "--workers=1", "--run_dir=run")
    said = run(installed / "bin" / "longjax-study", *flags, cwd=tmp_path, PYTHONPATH=str(installed))
    assert "base" in said
    assert (tmp_path / "run" / "report.md").exists()
