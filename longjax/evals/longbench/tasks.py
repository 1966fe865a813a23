"""LongBench's questions (arXiv 2308.14508), asked as the study asks them (arXiv 2409.12181): no chat template."""

import dataclasses

from absl import logging

from longjax.evals.context import EvalContext
from longjax.evals.longbench.examples import SCHEMA, SOURCE, examples
from longjax.evals.longbench.prompts import WORDING
from longjax.evals.longbench.table import EVEN, TASKS
from longjax.evals.longbench.truncation import truncate_middle
from longjax.evals.metrics.chinese import can_segment
from longjax.evals.metrics.qa import qa_f1_zh
from longjax.evals.metrics.rouge import rouge_zh
from longjax.evals.prompts import LONGBENCH, Prompt, longbench_prompts
from longjax.evals.requests import GenerationRequest, Record, Task
from longjax.files import sha256_file


@dataclasses.dataclass(frozen=True)
class LongBench:
    """Which of its tasks, and how long their prompts may be."""

    longbench_tasks: str = "paper"  # paper (the study's 16), all (21), e (LongBench-E's 13), or names: qasper,lcc_e
    longbench_max_length: int | None = None  # tokens of a prompt, the rest is cut from its middle; default: the longest

    def tasks(self, material: EvalContext) -> list[Task]:
        most = max(material.lengths) if self.longbench_max_length is None else self.longbench_max_length
        if most < 2:
            raise ValueError(f"--longbench_max_length={most} must be at least 2")
        names = longbench_names(self.longbench_tasks)
        warn_of_jieba(names)
        prompts = wordings(material, {name.removesuffix(EVEN) for name in names})
        return [task(material, name, prompts[name.removesuffix(EVEN)], most) for name in names]


def longbench_names(said: str) -> list[str]:
    """-> names of tasks, each once."""
    groups = {
        "paper": [name for name, kind in TASKS.items() if kind.paper],
        "all": list(TASKS),
        "e": [name + EVEN for name, kind in TASKS.items() if kind.even],
    }
    names = [name for word in said.split(",") for name in groups.get(word.strip(), [word.strip()])]
    known = [*groups["all"], *groups["e"]]
    if other := [name for name in names if name not in known]:
        raise ValueError(f"--longbench_tasks={said}: {other[0]!r} is none of {', '.join((*groups, *known))}")
    return list(dict.fromkeys(names))


def warn_of_jieba(names: list[str]) -> None:
    """Scores can be made later, so that nothing stops here."""
    chinese = [name for name in names if TASKS[name.removesuffix(EVEN)].metric in (qa_f1_zh, rouge_zh)]
    if chinese and not can_segment():
        logging.warning("scoring %s will need jieba: pip install 'longjax[zh]'", ", ".join(chinese))


def wordings(material: EvalContext, names: set[str]) -> dict[str, Prompt]:
    """-> the benchmark's own, or ours."""
    if material.prompts is not None:
        return longbench_prompts(material.prompts, {name: TASKS[name].asks for name in sorted(names)})
    return {name: Prompt(WORDING[name], TASKS[name].max_new_tokens) for name in names}


def wording_id(material: EvalContext) -> str:
    return "own" if material.prompts is None else sha256_file(material.prompts / LONGBENCH)


def task(material: EvalContext, name: str, prompt: Prompt, most: int) -> Task:
    files = [f"longbench/data/{name}.jsonl", f"longbench/{name}.jsonl"]
    path = material.find_file(files, f"LongBench's task {name}, {SCHEMA}", SOURCE)
    kind = name.removesuffix(EVEN)
    records, bad = examples(material, path, kind)
    folder = f"longbench{EVEN}" if name.endswith(EVEN) else "longbench"
    settings = {
        "prompts": wording_id(material),
        "data": sha256_file(path),
        "max_length": most,
        "bad_lines": bad,
    }
    asked = [request(material, kind, prompt, record, i, most) for i, record in enumerate(records)]
    return Task(f"{folder}/{name}", asked, settings)


def request(
    material: EvalContext, kind: str, prompt: Prompt, record: Record, index: int, most: int
) -> GenerationRequest:
    """`index` names those that have no _id."""
    text = prompt.template.format(context=record["context"], input=record["input"])
    ids, left_out = truncate_middle(material, text, most)
    one_line = TASKS[kind].one_line
    return GenerationRequest(
        ids,
        record_metadata(record, index) | {"n_truncated": left_out},
        prompt.new,
        stop_ids=(int(material.tokenizer.encode("\n")[-1]),) if one_line else (),
        min_new_tokens=1 if one_line else 0,
    )


def record_metadata(record: Record, index: int) -> Record:
    """-> what the scorers need to know. `length` is LongBench's, in words (Chinese: characters)."""
    return {"id": record.get("_id", str(index))} | {name: record[name] for name in ("answers", "all_classes", "length")}
