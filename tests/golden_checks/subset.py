"""Copies a small, representative part of a folder of exact golden vectors: python -m golden_checks.subset FROM TO.

Of every kind of case the smallest are kept: those with other fields, another peer, family or rope type are other kinds.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from golden_checks.exact_case import Case, cases

SLACK = 1.1  # size that a longer sequence may take, relative to the smallest


def kind(fields: dict[str, Any]) -> str:
    rope = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
    labels = [fields.get(name) for name in ("peer", "family", "kind", "bidirectional", "finetuned")]
    if "logits_incremental" in fields["arrays"]:  # large, and alike unless frequencies change on the way
        name = rope.get("rope_type", rope.get("type"))
        rope, labels = [name] if name in ("dynamic", "longrope", "clex") else [], []
    return json.dumps([sorted(fields), sorted(fields["arrays"]), labels, sorted(rope)], default=str)


def size(fields: dict[str, Any]) -> int:
    return sum(int(np.prod(shape)) for _, shape in fields["arrays"].values())


def best(members: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the case with the longest sequence among those that are about as small as the smallest."""
    enough = SLACK * min(map(size, members))
    small = (fields for fields in members if size(fields) <= enough)
    return max(small, key=lambda fields: (fields.get("seq_len", 0), bin(fields.get("num_heads", 0)).count("1")))


def chosen(listing: list[dict[str, Any]]) -> set[str]:
    """Return the names of the cases to keep, with those that hold their weights."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for fields in listing:
        kinds.setdefault(kind(fields), []).append(fields)
    kept = [best(members) for members in kinds.values()]
    named = {fields["ode_weights"].split()[0] for fields in kept if "ode_weights" in fields}
    return {fields["case_id"] for fields in kept} | named


def cut(case: Case) -> None:
    """Cut large arrays to a part that is still a case."""
    if "wq_meta" in case.arrays:
        one_head(case)
    for name in [name for name in case.arrays if name.startswith("logit_positions")]:
        suffix = name.removeprefix("logit_positions")
        for rows in [each for each in case.arrays if each.startswith("logit") and each.endswith(suffix)]:
            case.arrays[rows] = case.arrays[rows][-4:]
    case.fields["arrays"] = {name: [str(x.dtype), list(x.shape)] for name, x in case.arrays.items()}


def one_head(case: Case) -> None:
    """Cut a case to the first key head and its queries, and five tokens."""
    group, H, T = case.fields["n_heads"] // case.fields["n_kv"], case.fields["head_dim"], 5
    case.fields |= {"n_heads": group, "n_kv": 1, "L": T}
    for name, x in case.arrays.items():
        heads = 1 if name[:2] in ("wk", "k_") else group
        if name == "x":
            x = x[:, :T]
        elif name.startswith("w"):
            x = x[: heads * H]
        else:
            x = x[:heads, :T, :T] if name == "scores" else x[:T, :heads]
        case.arrays[name] = x


def main(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    listings = {path: json.loads(path.read_text()) for path in sorted(source.glob("*.json"))}
    names: set[str] = set()
    for listing in listings.values():
        names |= chosen(listing.get("cases", []))
    for path, listing in listings.items():
        if "cases" in listing:
            kept = [case for case in cases(path) if case.fields["case_id"] in names]
            for case in kept:
                cut(case)
            arrays = {f"{case.fields['case_id']}/{name}": x for case in kept for name, x in case.arrays.items()}
            np.savez_compressed(target / path.with_suffix(".npz").name, **arrays)  # pyright: ignore[reportArgumentType]
            listing = {"cases": [case.fields for case in kept]}
        (target / path.name).write_text(json.dumps(listing, indent=1) + "\n")
    for path in source.glob("*_weights.npz"):
        with np.load(path, allow_pickle=False) as file:
            np.savez_compressed(target / path.name, **file)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
