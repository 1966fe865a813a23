"""README and docs are true: Python blocks run, commands and links exist, every method is described."""

import dataclasses
import importlib.metadata
import importlib.util
import inspect
import json
import os
import pathlib
import re
import runpy
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

from doc_pages import PAGES, ROOT, SCRIPTS, blocks, commands, docstring, name
from longjax.evals.benchmarks import BENCHMARKS
from longjax.methods import METHODS
from longjax.methods.method import category
from longjax.study.presets import MINI, PRESETS
from longjax.training.recipe import Recipe
from longjax.training.trainer import LoopConfig
from peers import peer

MODEL = "/models/Llama-2-7b-hf"  # of the texts
TUTORIAL = ROOT / "docs" / "tutorial.md"  # runs as a whole, below
WITH_PYTHON = [path for path in PAGES if blocks(path.read_text(), "python") and path != TUTORIAL]
METHOD_PAGES = sorted((ROOT / "docs" / "methods").glob("*.md"))


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """One after the other, in one module; the model is the one that ships, and rows of tokens are at hand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "docs_example", module := types.ModuleType("docs_example"))
    tokens_BS = np.random.default_rng(0).integers(3, 500, (1, 129)).astype(np.int32)
    vars(module).update(tokens_BS=tokens_BS, tokens_BT=tokens_BS[:, :-1])
    with jax.numpy_dtype_promotion("standard"):  # as readers have it; optax needs it
        for block in blocks(page.read_text(), "python"):
            exec(compile(block.replace(MODEL, str(MINI.base_dir)), name(page), "exec"), vars(module))


TEXTS = {name(path): path.read_text() for path in PAGES} | {name(path): docstring(path) for path in SCRIPTS}
COMMANDS = [(where, command) for where, text in TEXTS.items() for command in commands(text)]


@pytest.fixture(scope="module")
def flags():
    """-> the flags of every program that is named with some, by its command."""
    programs = sorted({command.line for _, command in COMMANDS if command.flags})
    ask = [sys.executable, ROOT / "tests" / "program_help.py", *programs]
    printed = json.loads(subprocess.run(ask, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return {program: set(re.findall(r"--(?:\[no\])?([a-z]\w*)", text)) for program, text in printed.items()}


@pytest.mark.parametrize("where", sorted({where for where, _ in COMMANDS}))
def test_commands_and_their_flags_exist(flags, where):
    for command in (command for page, command in COMMANDS if page == where):
        if command.module:
            assert importlib.util.find_spec(command.module), f"{where}: {command.program}"
        else:
            assert importlib.metadata.entry_points(group="console_scripts", name=command.program), command.program
        for flag, _ in command.flags:
            known = flags[command.line]
            assert {flag, flag.removeprefix("no")} & {*known, "help"}, f"{where}: {command.line} has no --{flag}"


def test_flags_in_sentences_exist(flags):
    known = set.union(*flags.values())
    for path in PAGES:
        sentences = re.sub(r"^(?:```.*?^```|    [^\n]*)", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
        named = re.findall(r"--([a-z]\w*)", " ".join(re.findall(r"`[^`]*`", sentences)))
        unknown = [flag for flag in named if not {flag, flag.removeprefix("no")} & {*known, "help"}]
        assert not unknown, f"{name(path)}: {unknown}"


def test_guides_name_all_that_there_is():
    """Every flag of the recipe and the loop, every preset, every benchmark."""
    training, evaluation = ((ROOT / "docs" / page).read_text() for page in ("training.md", "evaluation.md"))
    options = [field.name for options in (Recipe, LoopConfig) for field in dataclasses.fields(options)]
    assert [option for option in options if f"`--{option}" not in training] == []
    presets = PRESETS.keys() - {"tiny"}  # tests/tiny_preset.py adds that one
    assert [preset for preset in presets if f"`{preset}`" not in training] == []
    assert [benchmark for benchmark in BENCHMARKS if f"| `{benchmark}` |" not in evaluation] == []


def test_commands_name_presets_and_methods_that_exist():
    for where, command in COMMANDS:
        for flag, value in command.flags:
            assert flag != "preset" or value in PRESETS, f"{where}: --preset={value}"
            assert flag != "method" or value in METHODS, f"{where}: --method={value}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_named_files_exist(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert link.startswith("https://") or (page.parent / link).exists(), f"{name(page)}: {link}"
    for path in re.findall(r"`((?:longjax|tests|docs|experiments|tools|benchmarks|results)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), f"{name(page)}: {path}"


def sections():
    """-> the sections of docs/methods by their heading."""
    parts = [part for path in METHOD_PAGES for part in re.split(r"^## ", path.read_text(), flags=re.MULTILINE)[1:]]
    return {head: body for head, _, body in (part.partition("\n") for part in parts)}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_described_as_it_is(method):
    make = METHODS[method]
    parameters = inspect.signature(make).parameters.values()
    signature = f"`{method}({', '.join(f'{p.name}={p.default!r}' for p in parameters)})`"
    kind = category(make()).replace(" ", ", ")
    section = sections()[method]
    assert f"{signature} - {kind}\n" in section
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [p.name for p in parameters]
    assert re.search(rf"^\| \[{method}\]\(\w+\.md#{method}\) \| [^|]+ \| {kind} \|", METHOD_PAGES_INDEX, re.MULTILINE)


METHOD_PAGES_INDEX = (ROOT / "docs" / "methods" / "index.md").read_text()


def test_nothing_else_is_in_the_table_of_methods():
    assert re.findall(r"^\| \[(\w+)\]", METHOD_PAGES_INDEX, re.MULTILINE) == list(METHODS)


def test_the_figure_of_distances_shows_what_its_caption_says():
    """All methods but the base stay within the trained distances; nobody sees the future."""
    drawing = runpy.run_path(str(ROOT / "docs" / "draw_methods.py"))
    for method_name, method in drawing["DISTANCES"].items():
        distance_TS = drawing["distance"](method, drawing["SMALL"], drawing["LENGTH"])
        seen_TS = ~np.isnan(distance_TS)
        assert np.array_equal(np.diagonal(seen_TS), np.ones(drawing["LENGTH"], bool)), method_name
        assert not np.triu(seen_TS, 1).any(), method_name
        assert (np.nanmax(distance_TS) <= drawing["SMALL"].trained_len) == (method_name != "base"), method_name


SMALLER = {  # sizes of the tutorial when it is tested
    "--preset=mini": "--preset=quick --steps=2 --length=512",
    "--length=2048": "--length=512",
    "--lengths=256,1024,2048": "--lengths=256,512",
    "--lengths=1024": "--lengths=512",
    "--ruler_samples=20": "--ruler_samples=2",
}


def test_the_tutorial_runs(tmp_path):
    """Its commands as they stand, but for sizes; then its Python."""
    text = TUTORIAL.read_text()
    for size, smaller in SMALLER.items():
        assert size in text
        text = text.replace(size, smaller)
    (tmp_path / "longjax").symlink_to(ROOT / "longjax")
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    compiled = {
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)} | compiled
    script = "\n".join(blocks(text, "bash"))
    (python,) = blocks(text, "python")
    for command in (["bash", "-e", "-c", script], [sys.executable, "-c", python]):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert len((tmp_path / "runs/tutorial/study/methods/yarn/metrics.jsonl").read_text().splitlines()) == 2


def test_the_site_builds_strictly_and_loads_nothing_from_the_network(tmp_path):
    peer("mkdocs")
    site, quiet = tmp_path / "site", os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", f"--site-dir={site}"]
    done = subprocess.run(build, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {page: page.read_text() for page in site.rglob("*.html")}
    assert len(pages) > len(PAGES)
    for page, text in pages.items():
        tags = re.findall(r"<(?:script|img|iframe|link)\b[^>]*>", text)
        assert not [tag for tag in tags if re.search(r"(?:src|href)=[\"']?(?:https?:)?//", tag)], page
