"""Short tasks through lm_eval: files, questions, records, resuming; offline."""

import json
import pathlib
import shutil
import socket

import numpy as np
import pytest

import fake_model
from longjax.data.tokenizer import Tokenizer
from longjax.evals import harness
from longjax.evals.context import EvalContext
from longjax.evals.harness import catalog, offline, runner
from longjax.evals.requests import GenerationResult, LoglikelihoodRequest, LoglikelihoodResult
from longjax.evals.results import read_rows
from longjax.evals.synthetic import writer
from longjax.evals.synthetic.short import SUBJECTS

HERE = pathlib.Path(__file__).parent
GOLDEN = [HERE / "golden" / "eval" / "windows", HERE.parents[1] / "shared" / "golden" / "eval" / "ppl"]
TOKENIZER = Tokenizer(HERE.parent / "longjax" / "bases" / "mini")
needs_lm_eval = pytest.mark.skipif(not runner.is_installed(), reason="lm_eval is the extra `harness`")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "made"
    writer.write_folder(folder, writer.synthetic_config("tiny", examples=3))
    return folder


def make_context(folder, **more):
    return EvalContext(folder, TOKENIZER, (1024,), **more)


def read(folder):
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def tasks(names="openllm"):
    return catalog.tasks_by_name(names)


def test_the_group_has_the_published_numbers_of_examples():
    shots = {task.name: task.shots for task in tasks()}
    assert shots == {
        "arc_challenge": 25, "hellaswag": 10, "mmlu": 5, "winogrande": 5, "gsm8k": 5, "truthfulqa_mc2": 0,
    }  # fmt: skip
    assert tasks("gsm8k,openllm, gsm8k") == [catalog.BY_NAME["gsm8k"], *(t for t in tasks() if t.name != "gsm8k")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"short_tasks": "openlm"}, "--short_tasks=openlm: no 'openlm'; there are openllm, arc_challenge"),
        ({"short_fewshot": -1}, "--short_fewshot=-1 must be 0 or more"),
    ],
)
def test_wrong_flags(change, said):
    with pytest.raises(ValueError, match=said):
        harness.ShortTasks(**change)


def test_a_missing_file_names_its_schema_and_source(data, tmp_path):
    with pytest.raises(ValueError, match=r"no short/gsm8k.jsonl: questions of gsm8k, an object a line with question, "):
        offline.prepare_tasks(make_context(tmp_path), tasks("gsm8k"), None)
    (tmp_path / "short").mkdir()
    shutil.copy(data / "short" / "gsm8k.jsonl", tmp_path / "short")
    with pytest.raises(ValueError, match=r"short/gsm8k_fewshot.jsonl: examples for gsm8k.*openai/gsm8k"):
        offline.prepare_tasks(make_context(tmp_path), tasks("gsm8k"), None)
    (alone,) = offline.prepare_tasks(make_context(tmp_path), tasks("gsm8k"), 0)
    assert (len(alone.rows), len(alone.pool)) == (3, 0)


def test_a_broken_line_is_named_or_counted(data, tmp_path):
    shutil.copytree(data / "short", tmp_path / "short")
    path = tmp_path / "short" / "winogrande.jsonl"
    path.write_text(path.read_text() + '{"sentence": "_"}\n')
    with pytest.raises(ValueError, match=r"winogrande.jsonl, line 4: no option1, option2, answer"):
        offline.prepare_tasks(make_context(tmp_path), tasks("winogrande"), None)
    (one,) = offline.prepare_tasks(make_context(tmp_path, skip_bad=True), tasks("winogrande"), None)
    assert len(one.rows) == 3


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("arc_challenge", {"answerKey": "E"}, "answerKey 'E' is none of the labels"),
        ("arc_challenge", {"choices": ["a", "b"]}, r"choices must be \{text: \[...\], label: \[...\]\}"),
        ("hellaswag", {"endings": []}, "endings must be a list of texts"),
        ("hellaswag", {"label": ""}, "label '' is no index of an ending"),
        ("mmlu", {"answer": "A"}, "answer 'A' must be 0, 1, 2 or 3"),
        ("mmlu", {"choices": ["a"]}, "choices must be a list of four texts"),
        ("winogrande", {"answer": 1}, "answer 1 must be '1' or '2'"),
        ("winogrande", {"sentence": "No gap."}, "sentence has no _"),
        ("gsm8k", {"answer": 7}, "answer must be a text, not 7"),
        (
            "truthfulqa_mc2",
            {"mc2_targets": {"choices": ["a"], "labels": [1, 0]}},
            "mc2_targets needs a label 0 or 1 for each",
        ),
    ],
)
def test_rows_that_cannot_be_asked(data, tmp_path, name, change, said):
    """The second of three lines."""
    shutil.copytree(data / "short", tmp_path / "short")
    path = tmp_path / "short" / f"{catalog.BY_NAME[name].file}.jsonl"
    first, second, *rest = path.read_text().splitlines()
    path.write_text("\n".join([first, json.dumps(json.loads(second) | change), *rest]))
    with pytest.raises(ValueError, match=f"{path.name}, line 2: {said}"):
        offline.prepare_tasks(make_context(tmp_path), tasks(name), None)
    left = offline.prepare_tasks(make_context(tmp_path, skip_bad=True), tasks(name), None)
    assert sum(len(one.rows) for one in left) == len(rest) + 1


def test_too_few_examples(data):
    with pytest.raises(ValueError, match=r"hellaswag_fewshot.jsonl has 11 examples for hellaswag and 12 are drawn"):
        offline.prepare_tasks(make_context(data), tasks("hellaswag"), 11)


def test_without_the_package(monkeypatch, data):
    monkeypatch.setitem(__import__("sys").modules, "lm_eval.tasks", None)
    with pytest.raises(ValueError, match=r"pip install longjax\[harness\]"):
        harness.prepare_short_tasks(make_context(data), harness.ShortTasks())


@needs_lm_eval
def test_an_old_package(monkeypatch):
    monkeypatch.setattr(runner.importlib.metadata, "version", lambda _: "0.4.9.2")
    with pytest.raises(ValueError, match=r"needs a newer lm_eval than 0.4.9.2: pip install -U longjax\[harness\]"):
        runner.import_lm_eval()


def test_rows_are_means_over_examples_and_subjects():
    def record(task, group, value):
        return {"task": f"short/{task}", "group": group, "main": "acc", "metrics": {"acc": value}, "n_truncated": 0}

    records = [record("mmlu_a", "mmlu", 1.0), record("mmlu_a", "mmlu", 0.0), record("mmlu_b", "mmlu", 1.0)]
    rows = {row["task"]: row for row in harness.score([*records, record("x", "x", None)])}
    assert {name: (row["value"], row["n"], row["nan"]) for name, row in rows.items()} == {
        "mmlu": (2 / 3, 3, 0), "mmlu_a": (0.5, 2, 0), "mmlu_b": (1.0, 1, 0), "x": (0.0, 1, 1),
    }  # fmt: skip
    assert rows["mmlu"]["stderr"] == pytest.approx(np.std([1, 0, 1], ddof=1) / 3**0.5)
    assert rows["mmlu_b"]["stderr"] is None


def reader(questions):
    """A model that can read: it knows every word that stands in the last sentences, and adds."""
    return [
        known(q) if isinstance(q, LoglikelihoodRequest) else GenerationResult(added(q), (5,), "stop", 0.0)
        for q in questions
    ]


def known(q):
    before, said = TOKENIZER.decode(q.tokens_T[: q.first_scored]), TOKENIZER.decode(q.tokens_T[q.first_scored :])
    word = said.split()[2] if "puts the" in said else said.strip().rstrip(".").removesuffix(" does")
    good = word in before[-250:]
    nll_U = np.full(len(q.tokens_T) - q.first_scored, 0.1 if good else 3.0, np.float32)
    return LoglikelihoodResult(nll_U, np.full(1, good))


def added(q):
    words = TOKENIZER.decode(q.tokens_T).split("Question:")[-1].split()
    a, b = (int(word) for word in words if word.isdigit())
    return f" It is {a + b}.\n#### {a + b}\n\nQuestion: more"[: -len("\n\nQuestion: more")]


@pytest.fixture
def offline_only(monkeypatch):
    def refuse(*_):
        raise AssertionError("something wants the network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@needs_lm_eval
def test_all_tasks_from_files_to_scores(data, tmp_path, offline_only):
    """A model that reads gets what can be got by reading, one that knows nothing does not."""
    few = "arc_challenge,gsm8k,truthfulqa_mc2"
    for name, ask, names in (("reads", reader, "openllm"), ("guesses", fake_model.uniform, few)):
        harness.run_short_tasks(ask, make_context(data), harness.ShortTasks(names), tmp_path / name, 1024)
    main = {
        name: {row["task"]: row["value"] for row in harness.score(read(tmp_path / name)) if row["main"]}
        for name in ("reads", "guesses")
    }
    assert {main["reads"][name] for name in ("arc_challenge", "hellaswag", "gsm8k")} == {1.0}
    assert main["guesses"]["gsm8k"] == 0
    assert main["guesses"]["arc_challenge"] < 1
    assert main["reads"]["truthfulqa_mc2"] > main["guesses"]["truthfulqa_mc2"]
    assert set(main["reads"]) == {task.name for task in tasks()} | {f"mmlu_{subject}" for subject in SUBJECTS}
    first = read(tmp_path / "reads")[0]
    assert (first["task"], first["index"], len(first["said"])) == ("short/arc_challenge", 0, 4)
    assert first["n_prompt_tokens"] > 1024
    assert first["n_truncated"] > 0


@needs_lm_eval
def test_rows_say_what_lm_eval_says(data, tmp_path, monkeypatch):
    import lm_eval

    theirs, whole = {}, lm_eval.simple_evaluate

    def watched(**wanted):
        found = whole(**wanted | {"bootstrap_iters": 100_000})
        theirs.update(found["results"])
        return found

    monkeypatch.setattr(lm_eval, "simple_evaluate", watched)
    wanted = harness.ShortTasks("arc_challenge,winogrande,gsm8k,truthfulqa_mc1", 2)
    harness.run_short_tasks(fake_model.uniform, make_context(data), wanted, tmp_path / "run", 512)
    rows = harness.score(read(tmp_path / "run"))
    assert len(rows) == 6
    for row in rows:
        metric, _, which = row["metric"].partition(",")
        said = theirs[row["task"]]
        assert row["value"] == pytest.approx(said[f"{metric},{which or 'none'}"], abs=1e-12)
        assert row["stderr"] == pytest.approx(said[f"{metric}_stderr,{which or 'none'}"], abs=1e-12)


@needs_lm_eval
def test_what_was_answered_is_not_asked_again(data, tmp_path, monkeypatch):
    """Killed between two slices: the second run asks for the rest alone, and records are those of an unbroken run."""
    from longjax.evals.harness import adapter

    monkeypatch.setattr(adapter, "SLICE", 4)
    asked = []

    def counts(questions):
        assert all(len(q.tokens_T) + q.max_new_tokens <= 512 for q in questions)
        asked.append(len(questions))
        return reader(questions)

    def dies(questions):
        if len(asked) == 3:
            raise KeyboardInterrupt
        return counts(questions)

    about, wanted, told = harness.ShortTasks("winogrande,gsm8k,truthfulqa_mc2", 1), make_context(data), []
    harness.run_short_tasks(counts, wanted, about, tmp_path / "whole", 512, progress=lambda *said: told.append(said))
    total = sum(asked)
    assert {(1.0, "21 of 21 choices"), (1.0, "3 of 3 answers")} < {*told}
    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        harness.run_short_tasks(dies, wanted, about, tmp_path / "torn", 512)
    assert not (tmp_path / "torn" / "records.jsonl").exists()
    harness.run_short_tasks(counts, wanted, about, tmp_path / "torn", 512)
    assert sum(asked) == total
    assert (tmp_path / "torn" / "records.jsonl").read_bytes() == (tmp_path / "whole" / "records.jsonl").read_bytes()
    asked.clear()
    harness.run_short_tasks(counts, wanted, about, tmp_path / "torn", 512)
    assert asked == []
    with pytest.raises(ValueError, match=r"torn holds another run: manifest.json differs in settings"):
        harness.run_short_tasks(counts, wanted, about, tmp_path / "torn", 256)


@needs_lm_eval
def test_torn_answers_are_named(data, tmp_path):
    (tmp_path / "answers_rank0.db").write_bytes(bytes(range(256)) * 16)
    with pytest.raises(ValueError, match=r"answers_rank0.db: file is not a database; make room, or delete it"):
        harness.run_short_tasks(reader, make_context(data), harness.ShortTasks("gsm8k", 0), tmp_path, 512)


@needs_lm_eval
def test_a_second_host_asks_for_the_same_rest_and_writes_nothing(data, tmp_path, monkeypatch):
    from longjax.evals.harness import adapter

    monkeypatch.setattr(adapter, "SLICE", 4)
    wanted, about, asked = make_context(data), harness.ShortTasks("winogrande", 1), []

    def dies(questions):
        asked.append(questions)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return reader(questions)

    with pytest.raises(KeyboardInterrupt):
        harness.run_short_tasks(dies, wanted, about, tmp_path, 512)
    before, asked = {path: path.read_bytes() for path in tmp_path.iterdir()}, []
    harness.run_short_tasks(lambda q: asked.append(len(q)) or reader(q), wanted, about, tmp_path, 512, writes=False)
    assert asked == [2]  # of 6, of which 4 were answered
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@needs_lm_eval
def test_rows_are_read_like_those_of_other_benchmarks(data, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"method": "yarn"}')
    wanted = harness.ShortTasks("truthfulqa_mc2,arc_challenge", 0)
    harness.run_short_tasks(reader, make_context(data, max_examples=2), wanted, tmp_path / "run" / "short", 512)
    rows = read_rows(tmp_path)
    assert [(row["task"], row["metric"], row["n"]) for row in rows] == [
        ("truthfulqa_mc2", "acc", 2), ("arc_challenge", "acc_norm", 2), ("arc_challenge", "acc", 2),
    ]  # fmt: skip
    assert {(row["method"], row["run"], row["settings"]["most"]) for row in rows} == {("yarn", "run", 2)}


@needs_lm_eval
def test_questions_open_with_bos_once_and_are_cut_from_the_left():
    from longjax.evals.harness.adapter import HarnessModel

    asked = []

    def remembers(questions):
        asked.extend(questions)
        return [fake_model.knows(q) for q in questions]

    class Request:
        def __init__(self, *args):
            self.args = args

    model = HarnessModel(remembers, TOKENIZER, 24)
    long = "one two three four five six seven eight nine ten eleven twelve thirteen"
    found = model.loglikelihood([Request("", " yes"), Request("A b. ", "c"), Request(long, " no")])
    assert found == [(0.0, True)] * 3
    by_size = {len(q.tokens_T): q for q in asked}
    cut = by_size[25]  # 24 are read, the last is only scored
    assert TOKENIZER.decode(cut.tokens_T).endswith("thirteen no")
    assert TOKENIZER.bos_id not in cut.tokens_T
    whole = [q for q in asked if len(q.tokens_T) < 25]
    assert all(q.tokens_T[0] == TOKENIZER.bos_id and TOKENIZER.bos_id not in q.tokens_T[1:] for q in whole)
    assert {TOKENIZER.decode(q.tokens_T[q.first_scored :]) for q in whole} == {" yes", " c"}
    rules = {"until": ["\n\n", ""], "max_gen_toks": 4}
    question = model.generation_request(long, rules)
    assert (len(question.tokens_T), question.max_new_tokens, question.stop_texts) == (20, 4, ("\n\n",))
    assert model.generation_request(long, {"until": ["."]}).max_new_tokens == 12  # half of the context: 256 do not fit
    with pytest.raises(ValueError, match="only greedy decoding"):
        model.generation_request(long, {"do_sample": True, "temperature": 0.7})


@needs_lm_eval
@pytest.mark.parametrize(("follows", "said"), [([], "'b' adds no token"), ([5] * 9, "9 tokens does not fit")])
def test_choices_that_cannot_be_scored(follows, said):
    """Known before anything is asked."""
    from longjax.evals.harness.adapter import HarnessModel

    asked = []
    with pytest.raises(ValueError, match=said):
        HarnessModel(asked.append, TOKENIZER, 8)._loglikelihood_tokens(
            [(("a", "b"), [1], [4]), (("a", "b"), [1], follows)]
        )
    assert asked == []


@needs_lm_eval
def test_choices_whose_likelihood_is_nan_are_told():
    from longjax.evals.harness.adapter import HarnessModel

    nan = LoglikelihoodResult(np.full(1, np.nan), np.ones(1, bool))
    model = HarnessModel(lambda asked: [nan for _ in asked], TOKENIZER, 8)
    with pytest.raises(ValueError, match=r"^short, the choice 'b': the model's logits are NaN or infinite; check"):
        model._loglikelihood_tokens([(("a", "b"), [1], [4])])


@needs_lm_eval
def test_rolling_scores_every_token_once():
    from longjax.evals.harness.adapter import HarnessModel

    class Request:
        def __init__(self, *args):
            self.args = args

    def by_id(questions):
        scored = [q.tokens_T[q.first_scored :].astype(np.float32) for q in questions]
        return [LoglikelihoodResult(nll_U, np.ones(1, bool)) for nll_U in scored]

    texts = ["one two three four five six seven eight", "nine", "ten eleven twelve"]
    sums = [-float(TOKENIZER.encode(text).sum()) for text in texts]
    assert HarnessModel(by_id, TOKENIZER, 5).loglikelihood_rolling([Request(text) for text in texts]) == sums


@needs_lm_eval
@pytest.mark.parametrize("folder", [x for x in GOLDEN if x.exists()], ids=lambda x: x.parts[-4])
def test_golden_windows(folder):
    from golden_checks import eval_windows

    results = list(eval_windows.results(folder))
    assert len(results) >= 40
    assert [result for result in results if result.error > result.tolerance] == []


@needs_lm_eval
def test_other_windows_are_noticed(tmp_path):
    from golden_checks import eval_windows

    rows = [json.loads(line) for line in (GOLDEN[0] / eval_windows.NAME).read_text().splitlines()]
    rows[0]["tokens"][1] += 1
    rows[1]["windows"][-1][0] = rows[1]["windows"][-1][0][1:]
    rows[2]["disjoint"].pop()
    del rows[3]["prefix_token"]
    (tmp_path / eval_windows.NAME).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [r.error > 0 for r in eval_windows.results(tmp_path)] == [True] * 4 + [False] * (len(rows) - 4)
