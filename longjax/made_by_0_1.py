"""Translates what longjax 0.1 wrote: a method as its `repr`, and settings by the field names of that release.

This file and `tests/test_made_by_0_1.py` go with the release after 0.2. Whoever renames a class, a function or a field
that 0.1 wrote adds the pair here: {name in 0.1: name now}. No name may be old and new in one table.
"""

import ast
import dataclasses
import pathlib
import re
from collections.abc import Mapping
from types import FunctionType
from typing import Any

# Classes and functions in the `repr` of a method.
NAMES: dict[str, str] = {
    "nothing": "no_params", "unchanged": "unchanged_weights", "everything": "all_trainable",
    "own_only": "adapters_only", "SlidingWindow": "SlidingWindowAttention", "At": "Constant",
    "Squeezed": "Interpolated", "ByToken": "PerToken", "ByChunk": "PerChunk",
    "WithOwn": "AlsoMethodParams", "Joint": "JointInit", "ClexOwn": "ClexInit",
}  # fmt: skip

# Fields: of the classes in a method's `repr`, by the name of the class in 0.1; and of settings, by the names in PARTS.
FIELDS: dict[str, dict[str, str]] = {
    "Method": {"own": "init_params", "insert": "insert_tokens", "piece": "row_length"},
    "ReRope": {"query_at": "query_position", "key_at": "key_position"},
    "At": {"place": "position"},
    "Preset": {
        "few": "raw_weight_tests", "only": "method_tests", "drills": "task_examples",
        "drill_tasks": "task_example_tasks",
        "tokens_a_call": "batch_tokens",
    },
    "Stage": {"drills": "task_examples"},
    "Recipe": {
        "rows": "batch_size", "micro_rows": "micro_batch_size", "decay_to": "min_lr_ratio",
        "from_zero": "warmup_from_zero",
        "clip": "max_grad_norm", "one_norm": "joint_clip", "ema": "ema_decay",
    },
    "ModelConfig": {},
    "Test": {"most": "max_examples"},  # all evaluators, and a test at lengths of its own
    "Variant": {},
    "Settings": {},  # methods
    "landmark": {"piece": "row_length"},
    "Sliding": {"documents": "max_documents"},
    "Strided": {
        "begin": "bos_id", "documents": "max_documents", "least": "min_tokens", "equal": "equal_weights",
    },
    "Nested": {"most": "max_windows"},
    "Spread": {"most": "max_windows"},
    "Forgetful": {"size": "reset_every"},
}  # fmt: skip

# What a field of settings holds, under its name in 0.1; "*": any field.
PARTS: dict[str, dict[str, str]] = {
    "Study": {"preset": "Preset"},
    "Training": {"model": "ModelConfig", "recipe": "Recipe"},
    "Preset": {
        "model": "ModelConfig", "base": "Recipe", "extend": "Recipe", "base_stages": "Stage", "extend_stages": "Stage",
        "tests": "Tests", "variants": "Variants", "settings": "Settings",
    },
    "Tests": {"*": "Test"},
    "Test": {"test": "Test"},
    "Variants": {"*": "Variant"},
    "Variant": {"recipe": "Recipe"},
    "Settings": {"landmark": "landmark"},
}  # fmt: skip


# Protocols of perplexity in manifest.json of a task, {class in 0.1: name now}; their fields are in FIELDS.
PROTOCOLS = {
    "Sliding": "sliding", "Strided": "strided", "Nested": "nested", "Spread": "evenly_spaced",
    "Forgetful": "without_memory",
}  # fmt: skip

NEW_OF_VARIANTS = {"length": None, "on": None}  # fields of further arms that 0.1 did not have
NEW_OF_PRESETS = {"further": False}


def rename_fields(value: Any, part: str | None) -> Any:
    """Returns settings under today's names; those that have them already stay as they are."""
    if isinstance(value, list):
        return [rename_fields(x, part) for x in value]
    if part is None or not isinstance(value, dict):
        return value
    names, parts = FIELDS.get(part, {}), PARTS.get(part, {})
    return {names.get(name, name): rename_fields(x, parts.get(name, parts.get("*"))) for name, x in value.items()}


def study_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings.json of a study under today's names. The attention backend is no longer part of it."""
    known = dict(settings)
    if isinstance(known.get("preset"), dict):
        preset = {name: x for name, x in known["preset"].items() if name != "softmax"}
        variants = {name: NEW_OF_VARIANTS | x for name, x in preset.get("variants", {}).items()}
        known["preset"] = (
            NEW_OF_PRESETS | preset | base_folder(preset) | ({"variants": variants} if "variants" in preset else {})
        )
    return rename_fields(known | base_folder(known), "Study")


def base_folder(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns where the base that ships with longjax lies today, if the settings name it: it was beside the package."""
    folder = settings.get("base_dir")
    if not folder or pathlib.Path(folder).exists():
        return {}
    return {"base_dir": re.sub("(^|/)bases/mini$", r"\1longjax/bases/mini", folder)}


def run_identity(content: Mapping[str, Any], method: Any, identity: Any) -> dict[str, Any]:
    """Returns the identity of the run in a checkpoint under today's names. `method` is the one that resumes it."""
    return rename_fields(method_file(content, method, identity), "Training")


def method_file(content: Mapping[str, Any], method: Any, identity: Any) -> dict[str, Any]:
    """Returns the content of a file with the identity of `method`, if 0.1 wrote the `repr` of that very method.

    Covers method.json, longjax.json and checkpoints ("method"), and run.json of an evaluation ("described").
    """
    known = dict(content)
    if "described" in known:
        if "checkpoint_sha256" in known:
            raise ValueError(
                "this evaluation was made by longjax 0.1, whose checkpoint_sha256 saw samples of the weights only: "
                "evaluate into another --out_dir, where every weight counts"
            )
        known["identity"] = known.pop("described")
        key = "identity"
    else:
        key = "method"
    if key in known and known[key] == method_repr(method):
        known[key] = identity
    return known


def method_repr(value: Any) -> str:
    """Returns the `repr` that a method, or a component of one, had in 0.1."""
    names = {new: old for old, new in NAMES.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = names.get(type(value).__qualname__, type(value).__qualname__)
        fields = {new: old for old, new in FIELDS.get(name, {}).items()}
        shown = [field.name for field in dataclasses.fields(value) if field.repr]
        return f"{name}({', '.join(f'{fields.get(f, f)}={method_repr(getattr(value, f))}' for f in shown)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(method_repr, value))}{',' * (len(value) == 1)})"
    if isinstance(value, FunctionType):
        return f"<function {names.get(value.__qualname__, value.__qualname__)}>"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def task_manifest(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns manifest.json of an evaluation's task under today's names, without the hash of the batches."""
    known = {name: x for name, x in content.items() if name not in ("plan", "batches")}
    return known | {"settings": task_settings(known["settings"])}


def task_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings in a task's manifest; 0.1 wrote the `repr` of a perplexity protocol."""
    known = dict(settings)
    if isinstance(known.get("windows"), str):
        known["windows"] = protocol(ast.parse(known["windows"], mode="eval").body)
    return known


def protocol(node: ast.expr) -> Any:
    """Returns the name and the settings of a protocol in the `repr` of 0.1, or one of its settings."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return ast.literal_eval(node)
    names = FIELDS[node.func.id]
    settings = {names.get(field.arg or "", field.arg): protocol(field.value) for field in node.keywords}
    return {"protocol": PROTOCOLS[node.func.id], **settings}
