"""The benchmarks' own prompts: read from a folder, extracted from checkouts. Ours are nobody else's."""

import difflib
import hashlib
import json
import re
from pathlib import Path

import pytest

from longjax.evals.longbench.prompts import PROMPTS
from longjax.evals.longbench.table import TASKS
from longjax.evals.prompts import RULER_FIELDS, check_fields, longbench_prompts, ruler_prompts
from longjax.files import sha256_file
from tools import extract_prompts

SHARED = Path(__file__).parents[2] / "shared" / "golden" / "eval" / "prompts"
ASKS = {name: kind.has_input for name, kind in TASKS.items()}
theirs = pytest.mark.skipif(not SHARED.exists(), reason="the benchmarks' prompts are not ours to ship")


def made_longbench():
    """-> prompts and numbers of tokens as LongBench's two files have them."""
    said = {name: f"{name}: {{context}}" + " {input}" * kind.has_input for name, kind in TASKS.items()}
    return said, {name: 7 + i for i, name in enumerate(TASKS)}


def made_ruler():
    return {
        name: {"template": f"{name}: " + " ".join(f"{{{x}}}" for x in sorted(known)), "answer_prefix": " So:",
               "tokens_to_generate": 9}
        for name, (_, known) in RULER_FIELDS.items()
    }  # fmt: skip


@pytest.fixture
def checkouts(tmp_path):
    config, synthetic = tmp_path / "lb" / "LongBench" / "config", tmp_path / "ruler" / "scripts" / "data" / "synthetic"
    for folder in (config, synthetic):
        folder.mkdir(parents=True)
    for name, said in zip(("dataset2prompt.json", "dataset2maxlen.json"), made_longbench(), strict=True):
        (config / name).write_text(json.dumps(said))
    code = f'"""Tasks."""\nraise SystemExit("this must not run")\nTASKS = {made_ruler()!r}\n'
    (synthetic / "constants.py").write_text(code)
    return tmp_path


def extract(*words):
    return extract_prompts.main([str(word) for word in words])


def test_checkouts_become_a_folder_of_prompts(checkouts, capsys):
    out = checkouts / "prompts"
    assert extract("--longbench", checkouts / "lb", "--ruler", checkouts / "ruler", "--out", out) == 0
    assert capsys.readouterr().out == f"{out}: longbench.json, ruler.json\n"
    prompts, new = made_longbench()
    assert longbench_prompts(out, ASKS) == {name: (prompts[name], new[name]) for name in TASKS}
    wanted = {name: (x["template"], x["answer_prefix"], 9) for name, x in made_ruler().items()}
    assert ruler_prompts(out) == wanted
    assert sha256_file(out / "ruler.json") == hashlib.sha256((out / "ruler.json").read_bytes()).hexdigest()


def test_older_layouts_and_the_folders_themselves(checkouts):
    for longbench, ruler in (
        ("lb/LongBench", "ruler/scripts"),
        ("lb/LongBench/config", "ruler/scripts/data/synthetic"),
    ):
        assert extract("--longbench", checkouts / longbench, "--out", checkouts / "a") == 0
        assert extract("--ruler", checkouts / ruler, "--out", checkouts / "a") == 0
    assert {path.name for path in (checkouts / "a").iterdir()} == {"longbench.json", "ruler.json"}


@theirs
def test_the_benchmarks_files_load_and_come_out_of_such_checkouts(tmp_path):
    held = json.loads((SHARED / "longbench.json").read_text("utf-8"))["tasks"]
    for name, field in (("dataset2prompt.json", "prompt"), ("dataset2maxlen.json", "max_gen")):
        (tmp_path / name).write_text(json.dumps({task: x[field] for task, x in held.items()}))
    base = json.loads((SHARED / "ruler.json").read_text("utf-8"))["base_tasks"]
    (tmp_path / "constants.py").write_text(f"TASKS = {base!r}")
    assert extract("--longbench", tmp_path, "--ruler", tmp_path, "--out", tmp_path / "out") == 0
    assert longbench_prompts(tmp_path / "out", ASKS) == longbench_prompts(SHARED, ASKS)
    assert ruler_prompts(tmp_path / "out") == ruler_prompts(SHARED)
    new = {name: prompt.max_new_tokens for name, prompt in longbench_prompts(SHARED, ASKS).items()}
    assert new == {name: kind.max_new_tokens for name, kind in TASKS.items()}


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("lb/LongBench/config/dataset2prompt.json", None, "--longbench=.*lb has none of"),
        ("lb/LongBench/config/dataset2maxlen.json", None, "dataset2maxlen.json cannot be read: No such file"),
        (
            "lb/LongBench/config/dataset2maxlen.json",
            "{}",
            'narrativeqa: "max_gen" must be a number of tokens, not None',
        ),
        ("lb/LongBench/config/dataset2prompt.json", "{", "dataset2prompt.json is torn, or is another file"),
        ("lb/LongBench/config/dataset2prompt.json", "[]", "dataset2prompt.json is not a JSON object"),
        ("lb/LongBench/config/dataset2prompt.json", '{"narrativeqa": "{context}"}', "has no {input}"),
        ("ruler/scripts/data/synthetic/constants.py", "TASKS = make()", "TASKS is computed"),
        ("ruler/scripts/data/synthetic/constants.py", "TASK = {}", "assigns no dict to TASKS"),
        ("ruler/scripts/data/synthetic/constants.py", "TASKS = {'niah': {}}", 'niah: "template" must be a text'),
        ("ruler/scripts/data/synthetic/constants.py", "def (", "constants.py is torn, or is another file"),
    ],
)
def test_a_checkout_that_cannot_be_read_is_one_line_and_writes_nothing(checkouts, capsys, path, text, said):
    (checkouts / path).unlink() if text is None else (checkouts / path).write_text(text)
    out = checkouts / "prompts"
    assert extract("--longbench", checkouts / "lb", "--ruler", checkouts / "ruler", "--out", out) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(said, error)
    assert not out.exists()


def test_no_checkout(tmp_path, capsys):
    assert extract("--out", tmp_path) == 2
    assert "name a checkout" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tasks: tasks.pop("qasper"), "longbench.json has no task qasper"),
        (
            lambda tasks: tasks["qasper"].update(prompt="{input}"),
            r"longbench.json, qasper: the prompt has no {context}",
        ),
        (lambda tasks: tasks["qasper"].update(prompt="{context} {input} {x}"), "unknown field {x}"),
        (lambda tasks: tasks["qasper"].update(prompt="{context} {input} {"), "not a template"),
        (lambda tasks: tasks["qasper"].update(prompt=3), 'qasper: "prompt" must be a text, not 3'),
        (lambda tasks: tasks["qasper"].update(max_gen=0), 'qasper: "max_gen" must be a number of tokens, not 0'),
    ],
)
def test_bad_files_of_prompts(tmp_path, change, said):
    tasks = {name: {"prompt": text, "max_gen": 1} for name, text in made_longbench()[0].items()}
    change(tasks)
    (tmp_path / "longbench.json").write_text(json.dumps({"tasks": tasks}))
    with pytest.raises(ValueError, match=said):
        longbench_prompts(tmp_path, ASKS)


def test_folders_without_prompts(tmp_path):
    with pytest.raises(ValueError, match=r"^--prompts=.* has no readable ruler.json: python -m tools.extract_prompts"):
        ruler_prompts(tmp_path)
    (tmp_path / "ruler.json").write_text("[")
    with pytest.raises(ValueError, match=r"ruler.json is not JSON, or is torn"):
        ruler_prompts(tmp_path)
    (tmp_path / "ruler.json").write_text("[]")
    with pytest.raises(ValueError, match=r'ruler.json holds no object "base_tasks"'):
        ruler_prompts(tmp_path)


def test_we_have_a_wording_for_every_task():
    assert PROMPTS.keys() == TASKS.keys()
    for name, text in PROMPTS.items():
        check_fields(name, text, {"context", "input"} if TASKS[name].has_input else {"context"}, {"context", "input"})


@theirs
@pytest.mark.parametrize("name", TASKS)
def test_our_wording_is_not_theirs(name):
    """No stretch of thirty characters of English, or ten of Chinese, between fields is in both."""
    ours = re.sub(r"{\w+}", "\0", PROMPTS[name])
    theirs = re.sub(r"{\w+}", "\1", longbench_prompts(SHARED, ASKS)[name].template)
    match = difflib.SequenceMatcher(None, ours, theirs, autojunk=False).find_longest_match()
    assert match.size < (30 if ours.isascii() else 10), ours[match.a : match.a + match.size]
