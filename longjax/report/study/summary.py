"""The beginning of a study's page and its end: who leads, what was run, what is missing, and the limits."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from longjax.config import ModelConfig
from longjax.report import measures
from longjax.report.measures import Measure
from longjax.report.study.main_table import leaders, main_columns, missing_columns, ranked
from longjax.report.study.text import format_value, join_names
from longjax.report.study.trials import MAIN, Trials
from longjax.training.flops import parameter_count

Settings = Mapping[str, Any]
TEST_NAMES = {
    "perplexity": "perplexity of held-out text, the same text at every length",
    "needle": "a sentence hidden in held-out books, by length and depth",
    "passkey": "pass keys hidden in filler, by length and depth",
    "manyshot": "many-shot classification of synthetic questions in the form of TREC",
    "ruler": "the 13 tasks of RULER, of which qa_1 and qa_2 are about synthetic paragraphs",
}
RECALL_NAMES = {"passkey": "pass keys", "repeat": "repeated text", "task_examples": "examples of the tests' tasks"}


def headline(trials: Trials, settings: Settings) -> str:
    """Return who is best at the length of the training, by perplexity and by RULER; "": neither was run."""
    ppl, score = measures.ppl(trials.extended), measures.ruler(trials.extended)
    score = score if ranked(trials, score, trials.main) else measures.passkey(trials.extended)
    parts = [_best(trials, m) for m in (ppl, score) if leaders(trials, m)]
    count = sum(trials.kind(arm) != "base" for arm in trials.main)
    size = model_size(settings)
    model = f"a LLaMA of {size / 1e6:.3g} M parameters" if size else "a LLaMA"
    head = f"Of {count} methods that extend {model} from {trials.trained} to {trials.extended} tokens"
    return f"{head}, {'; '.join(parts)}." if parts else ""


def _best(trials: Trials, measure: Measure) -> str:
    """-> the leader, and who is level with it."""
    first, *level = leaders(trials, measure)
    name = "lowest perplexity" if measure.is_ppl else f"highest score on {measure.name}"
    base = trials.value(measures.ppl(trials.trained), "base") if "base" in trials.main else math.nan
    own = "" if math.isnan(base) else f"; the base at its own {trials.trained}: {base:.2f}"
    unit = own if measure.is_ppl else " %"
    tail = f"not significantly ahead of {join_names(level)}" if level else "significantly ahead of all others"
    return f"{first} has the {name} ({format_value(measure, trials.value(measure, first))}{unit}), {tail}"


def model_size(settings: Settings) -> int:
    """Return the number of parameters of the model in the settings; 0: not in them."""
    model = settings.get("preset", {}).get("model", {})
    known = {"vocab", "dim", "layers", "heads", "kv_heads", "ffn"} <= model.keys()
    return parameter_count(ModelConfig(**model)) if known else 0


def protocol(trials: Trials, settings: Settings) -> list[str]:
    """Return paragraphs on model, recipe, tests, machine and seeds, as far as settings.json has them."""
    preset = settings.get("preset", {})
    parts = [_model(preset, model_size(settings), trials), _recipe(preset, trials), _tests(trials)]
    return [part for part in [*parts, _machine(trials), _seeds(trials)] if part]


def _seeds(trials: Trials) -> str:
    if len(trials.seeds) < 2:
        return (
            "One seed was run: what another base and order of data would change is not known. 'Significantly' means "
            "that the 95 % interval of a paired bootstrap over the same questions leaves out 0."
        )
    return (
        f"{len(trials.seeds)} seeds were run. Each is a study of its own: another initialization and order of data of "
        "the base, and all extensions of that base on other rows; all seeds have the same questions. Numbers are "
        "means over the seeds, +- half their range, which shows how far another base would move them. Whether two "
        "methods differ is decided on the same questions, by a paired bootstrap over them (95 %): 'significantly' "
        "means that its interval leaves out 0 and that all seeds agree in the sign; less than a thousandth of a "
        "perplexity is no difference."
    )


def _model(preset: Settings, size: int, trials: Trials) -> str:
    cfg, base = preset.get("model", {}), preset.get("base") or {}
    if not size:
        return ""
    shape = f"{cfg['layers']} layers of {cfg['dim']}, {cfg['heads']} heads, vocabulary {cfg['vocab']}"
    line = f"The base is a LLaMA of {size / 1e6:.3g} M parameters ({shape}) with a context of {trials.trained} tokens"
    if {"steps", "batch_size"} <= base.keys():
        steps, rows = base["steps"], base["batch_size"]
        tokens = steps * rows * trials.trained / 1e6
        line += f", pretrained from scratch on {tokens:.3g} M tokens ({steps} steps of {rows} rows)"
    return line + f"; {_recall_shares(preset.get('base_stages', ()))}."


def _recall_shares(stages: Iterable[Settings]) -> str:
    """-> the largest shares of rows that teach recall."""
    shares = {words: max((s.get(name, 0.0) for s in stages), default=0.0) for name, words in RECALL_NAMES.items()}
    parts = [f"{words} ({100 * share:.0f} %)" for words, share in shares.items() if share]
    return f"up to these shares of rows teach recall: {join_names(parts)}" if parts else "no rows teach recall"


def _recipe(preset: Settings, trials: Trials) -> str:
    recipe = preset.get("extend") or {}
    if not {"steps", "batch_size", "learning_rate", "schedule", "ema_decay"} <= recipe.keys():
        return ""
    rows = recipe["steps"] * recipe["batch_size"]
    tokens = rows * trials.extended / 1e6
    return (
        f"Trained methods see the same {rows} rows of {trials.extended} tokens ({tokens:.3g} M) in "
        f"the same order: {recipe['steps']} updates of {recipe['batch_size']} rows, learning rate "
        f"{recipe['learning_rate']:g}{_frequency_rate(recipe)}, schedule {recipe['schedule']}; EMA of weights "
        f"{recipe['ema_decay']:g}, which are evaluated unless raw weights are named; "
        f"{_recall_shares(preset.get('extend_stages', ()))}. Frozen methods change the base's attention or positions "
        "and train nothing. Only the method differs."
    )


def _frequency_rate(recipe: Settings) -> str:
    """-> the learning rate of CLEX's frequencies, where it is known."""
    share = recipe.get("frequency_rate")
    if share is None or recipe.get("joint_clip"):
        return ""
    return f" (learned frequencies, CLEX's: {share * recipe['learning_rate']:.2g}, clipped apart)"


def _tests(trials: Trials) -> str:
    names = dict.fromkeys(TEST_NAMES[m.benchmark] for m in main_columns(trials))
    return f"All methods have the same questions, and decode greedily: {'; '.join(names)}." if names else ""


def _machine(trials: Trials) -> str:
    """-> the devices, and the time that arms took."""
    devices = dict.fromkeys(r["device"] for rows in trials.rows.values() for r in rows if r.get("device"))
    training = [x for rows in trials.rows.values() if (x := rows[0].get("train_seconds"))]
    evaluation = [sum(r.get("seconds", 0.0) for r in rows) for rows in trials.rows.values()]
    parts = [f"device: {join_names(devices)}"] if devices else []
    parts += [f"a training took {_span(training)}"] if training else []
    text = "; ".join([*parts, f"all evaluations of an arm took {_span(evaluation)}"])
    return f"{text[0].upper()}{text[1:]}, several side by side."


def _span(seconds: Sequence[float]) -> str:
    return f"{min(seconds):.0f} to {max(seconds):.0f} s"


def missing_parts(trials: Trials) -> list[str]:
    """Return a line for each part of the main table that was not run."""
    absent = [arm for arm in MAIN if arm not in trials.arms]
    few = [arm for arm in MAIN if arm in trials.arms and arm not in trials.main]
    lines = [f"Not run: {join_names(names)}." for names in (absent, missing_columns(trials)) if names]
    lines += [f"Evaluated on few tests, and not in the table: {join_names(few)}."] if few else []
    for arm in trials.main:
        columns = [m.name for m in main_columns(trials) if trials.number(m, arm) is None]
        seeds = [s for s in trials.seeds if not trials.rows_of(arm, s)]
        lines += [f"{arm} was not evaluated by {join_names(columns)}."] if columns else []
        lines += [f"{arm} has no seed {join_names(map(str, seeds))}."] if seeds else []
    return lines


def limits(trials: Trials, settings: Settings) -> list[str]:
    """Return a line for each limit that follows from the sizes and the recipe."""
    size = model_size(settings)
    lines = [f"The model has {size / 1e6:.3g} M parameters; what holds at 7 B is another question."] if size else []
    lines.append("Differences below half the range of the seeds, or not significant, are noise.")
    counts = [(m.name, x.n) for m in main_columns(trials) if (x := trials.number(m, trials.main[0])) is not None]
    lines.append(f"Questions behind a number, all seeds: {join_names(f'{name} {n}' for name, n in counts)}.")
    stages = settings.get("preset", {}).get("extend_stages", ())
    if stages:
        lines.append(
            f"Recall is taught: in extension, {_recall_shares(stages)}. Scores of retrieval show how well a method "
            "carries a skill to other lengths, not whether plain text teaches it. Frozen methods have had the base's "
            "rows alone, so that a trained method's lead in a task may come from what its rows contain besides length."
        )
    lines.append("Learning rate and steps were tuned for no method; a method may do better under another recipe.")
    return lines
