"""The first words of a study's page, and its last: the abstract, what was run, and what it cannot tell."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from longjax.report.study import base_check, measures, recovery
from longjax.report.study.main_table import ALIKE, agreement, between_seeds, columns, leaders, not_run, ranked
from longjax.report.study.measures import Measure
from longjax.report.study.questions import against_scores, beyond, position_tables
from longjax.report.study.text import listed, text
from longjax.report.study.trials import MAIN, Trials

Settings = Mapping[str, Any]


def abstract(trials: Trials, settings: Settings) -> str:
    """-> paragraphs, of what was run: who leads; what it cannot tell; what else it says."""
    first = [recovery.finding(trials), base_check.finding(trials)]
    score = measures.ruler(trials.extended)
    rest = [further(trials, settings), position_tables.answer(trials, [score], [score]), tells(trials, settings)]
    parts = [lead(trials, settings), *first, " ".join(part for part in rest if part)]
    return "\n\n".join(part for part in parts if part)


def lead(trials: Trials, settings: Settings) -> str:
    """Who is best at the length of the training."""
    ppl, score = measures.ppl(trials.extended), measures.ruler(trials.extended)
    score = score if ranked(trials, score, trials.main) else measures.passkey(trials.extended)
    parts = [best(trials, m) for m in (ppl, score) if leaders(trials, m)]
    count = sum(trials.kind(arm) != "base" for arm in trials.main)
    size = parameters(settings)
    model = f"a LLaMA of {size / 1e6:.3g} M parameters" if size else "a LLaMA"
    head = f"Of {count} methods that extend {model} from {trials.trained} to {trials.extended} tokens"
    return f"{head}, {'; '.join(parts)}." if parts else ""


def best(trials: Trials, measure: Measure) -> str:
    """-> the leader, and who is level with it."""
    first, *level = leaders(trials, measure)
    what = "lowest perplexity" if measure.is_ppl else f"highest score on {measure.name}"
    base = trials.value(measures.ppl(trials.trained), "base") if "base" in trials.main else math.nan
    own = "" if math.isnan(base) else f"; the base at its own {trials.trained}: {base:.2f}"
    unit = own if measure.is_ppl else " %"
    tail = f", not surely ahead of {listed(level)}" if level else ", surely ahead of all others"
    return f"{first} has the {what} ({text(measure, trials.value(measure, first))}{unit}){tail}"


def further(trials: Trials, settings: Settings) -> str:
    """Who goes on beyond it."""
    arms = [arm for arm in recovery.recovered(trials, trials.main) if trials.kind(arm) != "base"]
    found = {arm: x for arm in arms if (x := beyond.ratio(trials, arm)) is not None}
    if not found:
        return ""
    holding = [arm for arm, x in found.items() if beyond.holds(x)]
    kept = {arm: x for arm in arms if (x := beyond.kept(trials, arm)) is not None}
    both = [arm for arm in holding if arm in kept and beyond.keeps(kept[arm])]
    tail = f", and of those RULER's score is kept by {listed(both)}" if kept else ""
    return (
        f"At {trials.longest}, beyond the rows of any training, perplexity stays within "
        f"{100 * (beyond.HOLDS - 1):.0f} % in every seed for {len(holding)} of {len(found)} that have recovered{tail}."
    )


def tells(trials: Trials, settings: Settings) -> str:
    """Whether perplexity predicts scores, and how alike the seeds are."""
    ppl, score, parts = measures.ppl(trials.extended), measures.ruler(trials.extended), []
    for name in ("exact", "approximate"):
        rho, _ = against_scores.coefficients(against_scores.able(trials, ppl, score, name))
        if rho:
            verdict = {-1: "goes with", 1: "goes against", 0: "does not surely go with"}[rho.sign]
            parts.append(
                f"{verdict} a higher score on RULER among {name} methods ({rho.n} without failures, rho {rho})"
            )
    rhos = [rho.value for m in columns(trials) if (rho := between_seeds(trials, m)) is not None]
    alike = sum(rho >= ALIKE for rho in rhos)
    seeds = f"two seeds rank the methods alike (rho of at least {ALIKE}) by {alike} of {len(rhos)} measures"
    told = [f"lower perplexity {listed(parts)}"] * bool(parts) + [seeds] * bool(rhos)
    sentence = "; ".join(told + ["there is one seed only"] * (len(trials.seeds) < 2))
    return f"{sentence[0].upper()}{sentence[1:]}." if sentence else ""


def parameters(settings: Settings) -> int:
    """-> of the model in the settings; 0: they do not say."""
    model = settings.get("preset", {}).get("model", {})
    if not {"vocab", "dim", "layers", "heads", "kv_heads", "ffn"} <= model.keys():
        return 0
    dim, width = model["dim"], model.get("head_width") or model["dim"] // model["heads"]
    layer = 2 * dim * width * (model["heads"] + model["kv_heads"]) + 3 * dim * model["ffn"] + 2 * dim
    return 2 * model["vocab"] * dim + model["layers"] * layer + dim


def protocol(trials: Trials, settings: Settings) -> list[str]:
    """-> paragraphs, as far as settings.json says."""
    preset = settings.get("preset", {})
    parts = [model(preset, parameters(settings), trials), recipe(preset, trials), tests(trials), machine(trials)]
    seeds = (
        f"{len(trials.seeds)} seeds were run. Each is a study of its own: another initialisation and order of data of "
        "the base, and all extensions of that base on other rows; all seeds are asked the same questions. Numbers are "
        "means over the seeds, +- half their range, which says how far another base would move them. Whether two "
        "methods differ is decided on the same questions, by a paired bootstrap over them (95 %): 'surely' means that "
        "its interval leaves out 0 and that all seeds agree in the sign; less than a thousandth of a perplexity is no "
        "difference."
        if len(trials.seeds) > 1
        else "One seed was run: what another base and order of data would change is not known. 'Surely' means that the "
        "95 % interval of a paired bootstrap over the same questions leaves out 0."
    )
    return [part for part in [*parts, seeds] if part]


def model(preset: Settings, size: int, trials: Trials) -> str:
    cfg, base = preset.get("model", {}), preset.get("base") or {}
    if not size:
        return ""
    shape = f"{cfg['layers']} layers of {cfg['dim']}, {cfg['heads']} heads, vocabulary {cfg['vocab']}"
    line = f"The base is a LLaMA of {size / 1e6:.3g} M parameters ({shape}) with a context of {trials.trained} tokens"
    if {"steps", "batch_size"} <= base.keys():
        steps, rows = base["steps"], base["batch_size"]
        tokens = steps * rows * trials.trained / 1e6
        line += f", pretrained from nothing on {tokens:.3g} M tokens ({steps} steps of {rows} rows)"
    return line + f"; {taught(preset.get('base_stages', ()))}."


def taught(stages: Any) -> str:
    """-> the shares of rows that teach recall."""
    names = {"passkey": "pass keys", "repeat": "repeated text", "task_examples": "questions as the tests ask them"}
    most = {words: max((s.get(name, 0.0) for s in stages), default=0.0) for name, words in names.items()}
    found = [f"{words} ({100 * share:.0f} %)" for words, share in most.items() if share]
    return f"up to these shares of rows teach recall: {listed(found)}" if found else "no rows teach recall"


def recipe(preset: Settings, trials: Trials) -> str:
    one = preset.get("extend") or {}
    if not {"steps", "batch_size", "learning_rate", "schedule", "ema_decay"} <= one.keys():
        return ""
    tokens = one["steps"] * one["batch_size"] * trials.extended
    return (
        f"Trained methods see the same {one['steps'] * one['batch_size']} rows of {trials.extended} tokens "
        f"({tokens / 1e6:.3g} M) in the same order: {one['steps']} updates of {one['batch_size']} rows, learning rate "
        f"{one['learning_rate']:g}{of_frequencies(one)}, schedule {one['schedule']}; EMA of weights "
        f"{one['ema_decay']:g}, which are what is evaluated unless raw weights are named; "
        f"{taught(preset.get('extend_stages', ()))}. Frozen methods change the base's attention or positions and train "
        "nothing. Only the method differs."
    )


def of_frequencies(recipe: Settings) -> str:
    """-> how what CLEX learns is treated, where that is known."""
    share = recipe.get("frequency_rate")
    if share is None or recipe.get("joint_clip"):
        return ""
    return f" (learned frequencies, CLEX's: {share * recipe['learning_rate']:.2g}, clipped apart)"


def tests(trials: Trials) -> str:
    words = {
        "perplexity": "perplexity of held-out text, the same text at every length",
        "needle": "a sentence hidden in held-out books, by length and depth",
        "passkey": "pass keys hidden in filler, by length and depth",
        "manyshot": "many-shot classification of made questions in the form of TREC",
        "ruler": "the 13 tasks of RULER, of which qa_1 and qa_2 ask about made paragraphs",
    }
    asked = dict.fromkeys(words[m.benchmark] for m in columns(trials))
    return f"All methods are put to the same questions, and decode greedily: {'; '.join(asked)}." if asked else ""


def machine(trials: Trials) -> str:
    """-> on what the answers were given, and the time that arms took."""
    devices = dict.fromkeys(r["device"] for rows in trials.rows.values() for r in rows if r.get("device"))
    training = [x for rows in trials.rows.values() if (x := rows[0].get("train_seconds"))]
    asking = [sum(r.get("seconds", 0.0) for r in rows) for rows in trials.rows.values()]
    parts = [f"Device: {listed(devices)}"] if devices else []
    parts += [f"a training took {span(training)}"] if training else []
    parts += [f"all answers of an arm took {span(asking)}"]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}, several side by side."


def span(seconds: Sequence[float]) -> str:
    return f"{min(seconds):.0f} to {max(seconds):.0f} s"


def missing(trials: Trials) -> list[str]:
    """-> what the page would show if it had been run."""
    arms = [arm for arm in MAIN if arm not in trials.arms]
    few = [arm for arm in MAIN if arm in trials.arms and arm not in trials.main]
    lines = [f"Not run: {listed(arms)}."] * bool(arms) + [f"Not run: {listed(not_run(trials))}."] * bool(
        not_run(trials)
    )
    lines += [f"Put to few tests, and not in the table: {listed(few)}."] * bool(few)
    for arm in trials.main:
        gone = [m.name for m in columns(trials) if trials.number(m, arm) is None]
        seeds = [s for s in trials.seeds if not trials.of(arm, s)]
        lines += [f"{arm} was not asked {listed(gone)}."] * bool(gone)
        lines += [f"{arm} has no seed {listed(map(str, seeds))}."] * bool(seeds)
    return lines


def limits(trials: Trials, settings: Settings) -> list[str]:
    size = parameters(settings)
    lines = [f"The model has {size / 1e6:.3g} M parameters; what holds at 7 B is another question."] if size else []
    lines.append(f"{agreement(trials)} Differences below half the range of the seeds, or not 'surely' so, are noise.")
    ranges = [(m.name, x.n) for m in columns(trials) if (x := trials.number(m, trials.main[0])) is not None]
    lines.append(f"Questions behind a number, all seeds: {listed(f'{name} {n}' for name, n in ranges)}.")
    stages = settings.get("preset", {}).get("extend_stages", ())
    if stages:
        lines.append(
            f"Recall is taught: in extension, {taught(stages)}. Scores of retrieval say how well a method carries a "
            "skill to other lengths, not whether plain text teaches it. Frozen methods have had the base's lessons "
            "alone, so that a trained method's lead in a task may be what its rows have taught it besides length."
        )
    lines.append("Learning rate and steps were tuned for no method; a method may do better under another recipe.")
    return lines
