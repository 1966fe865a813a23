"""LongBench's requests (arXiv:2308.14508), as in the study (arXiv:2409.12181): without a chat template."""

import dataclasses

from absl import logging

from longjax.evals.context import EvalContext
from longjax.evals.longbench.examples import SCHEMA, SOURCE, examples
from longjax.evals.longbench.prompts import PROMPTS
from longjax.evals.longbench.table import EVEN, TASKS
from longjax.evals.longbench.truncation import truncate_middle, truncate_to_lengths
from longjax.evals.metrics.chinese import can_segment
from longjax.evals.metrics.qa import qa_f1_zh
from longjax.evals.metrics.rouge import rouge_zh
from longjax.evals.prompts import LONGBENCH, LongBenchPrompt, longbench_prompts
from longjax.evals.requests import GenerationRequest, Record, Task
from longjax.files import sha256_file


@dataclasses.dataclass(frozen=True)
class LongBench:
    """Tasks of LongBench, and how long their prompts may be."""

    longbench_tasks: str = "paper"  # paper (the study's 16), all (21), e (LongBench-E's 13), or names: qasper,lcc_e
    longbench_max_length: int | None = None  # tokens of a prompt, cut in its middle; if unset, it fits into --lengths

    def tasks(self, ctx: EvalContext) -> list[Task]:
        """Return a task for each name. Raises ValueError for unknown names and for files of the user."""
        max_length = self.longbench_max_length
        if max_length is not None and max_length < 2:
            raise ValueError(f"--longbench_max_length={max_length} must be at least 2")
        names = longbench_names(self.longbench_tasks)
        warn_of_jieba(names)
        prompts = prompts_of(ctx, {name.removesuffix(EVEN) for name in names})
        return [longbench_task(ctx, name, prompts[name.removesuffix(EVEN)], max_length) for name in names]


def longbench_names(value: str) -> list[str]:
    """Return the names of tasks that --longbench_tasks lists, each once. Raises ValueError for unknown ones."""
    groups = {
        "paper": [name for name, kind in TASKS.items() if kind.paper],
        "all": list(TASKS),
        "e": [name + EVEN for name, kind in TASKS.items() if kind.even],
    }
    names = [name for word in value.split(",") for name in groups.get(word.strip(), [word.strip()])]
    known = [*groups["all"], *groups["e"]]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"--longbench_tasks={value}: {unknown[0]!r} is none of {', '.join((*groups, *known))}")
    return list(dict.fromkeys(names))


def warn_of_jieba(names: list[str]) -> None:
    """Warn of tasks whose scores need jieba; no error, since scores can also be made later."""
    chinese = [name for name in names if TASKS[name.removesuffix(EVEN)].metric in (qa_f1_zh, rouge_zh)]
    if chinese and not can_segment():
        logging.warning("scoring %s will need jieba: pip install 'longjax[zh]'", ", ".join(chinese))


def prompts_of(ctx: EvalContext, names: set[str]) -> dict[str, LongBenchPrompt]:
    """Return the prompts of tasks: the benchmark's own if --prompts names a folder, else ours."""
    if ctx.prompts is not None:
        return longbench_prompts(ctx.prompts, {name: TASKS[name].has_input for name in sorted(names)})
    return {name: LongBenchPrompt(PROMPTS[name], TASKS[name].max_new_tokens) for name in names}


def prompts_id(ctx: EvalContext) -> str:
    """Return the name of the prompts in manifests: own, or the hash of the benchmark's."""
    return "own" if ctx.prompts is None else sha256_file(ctx.prompts / LONGBENCH)


def longbench_task(ctx: EvalContext, name: str, prompt: LongBenchPrompt, max_length: int | None) -> Task:
    """Return one task, whose prompts have about `max_length` tokens at most; None: they fit into the lengths."""
    files = [f"longbench/data/{name}.jsonl", f"longbench/{name}.jsonl"]
    path = ctx.find_file(files, f"LongBench's task {name}, {SCHEMA}", SOURCE)
    kind = name.removesuffix(EVEN)
    records, bad = examples(ctx, path, kind)
    folder = f"longbench{EVEN}" if name.endswith(EVEN) else "longbench"
    settings = {
        "prompts": prompts_id(ctx),
        "data": sha256_file(path),
        "max_length": max_length or max(ctx.lengths),
        "bad_lines": bad,
    }
    requests = [longbench_request(ctx, kind, prompt, record, i, max_length) for i, record in enumerate(records)]
    return Task(f"{folder}/{name}", requests, settings)


def longbench_request(
    ctx: EvalContext, kind: str, prompt: LongBenchPrompt, record: Record, index: int, max_length: int | None
) -> GenerationRequest:
    """Return the request of one example; `index` is the id of those without an _id."""
    text = prompt.template.format(context=record["context"], input=record["input"])
    if max_length is None:
        ids, n_truncated = truncate_to_lengths(ctx, text, prompt.max_new_tokens)
    else:
        ids, n_truncated = truncate_middle(ctx, text, max_length)
    one_line = TASKS[kind].one_line
    return GenerationRequest(
        ids,
        record_metadata(record, index) | {"n_truncated": n_truncated},
        prompt.max_new_tokens,
        stop_ids=(int(ctx.tokenizer.encode("\n")[-1]),) if one_line else (),
        min_new_tokens=1 if one_line else 0,
    )


def record_metadata(record: Record, index: int) -> Record:
    """Return what the scorers need of an example. `length` is LongBench's, in words (Chinese: characters)."""
    return {"id": record.get("_id", str(index))} | {name: record[name] for name in ("answers", "all_classes", "length")}
