"""Hugging Face weights by our names and back. NumPy only; what differs between families is in families.py."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from longjax.checkpoints.families import HEAD, MPT, MPT_BIASES, WeightEntry, ignored, weight_table
from longjax.checkpoints.tensor_source import Tensors
from longjax.config import ModelConfig
from longjax.model.llama import global_shapes, layer_shapes


class Piece(NamedTuple):
    """One of our tensors, or one layer of it, and where it is in theirs."""

    name: str
    layer: int | None
    entry: WeightEntry


def pieces(cfg: ModelConfig) -> dict[str, list[Piece]]:
    """-> each tensor of theirs: what of ours it is made of, in the order of its rows."""
    made: dict[str, list[Piece]] = {}
    for name in global_shapes(cfg):
        made.setdefault(weight_table(cfg)[name].hf_name, []).append(Piece(name, None, weight_table(cfg)[name]))
    for name in layer_shapes(cfg):
        entry = weight_table(cfg)[name]
        for layer in range(cfg.layers):
            made.setdefault(entry.hf_name.format(layer), []).append(Piece(name, layer, entry))
    return {theirs: sorted(members, key=lambda piece: piece.entry.part) for theirs, members in made.items()}


def their_shape(members: list[Piece], cfg: ModelConfig) -> tuple[int, ...]:
    """-> shape of the tensor of theirs that is made of these."""
    size = sizes(cfg)
    shapes = [[int(np.prod([size[a] for a in group])) for group in piece.entry.axes.split()] for piece in members]
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def stored_names(names: Iterable[str], cfg: ModelConfig) -> dict[str, str]:
    """-> name in our tables: name in the checkpoint. Buffers are left out; base models are saved without prefix."""
    prefix = weight_table(cfg)["embed_VD"].hf_name.split(".")[0] + "."
    weights = [name for name in names if not ignored(name)]
    whole = any(name.startswith(prefix) for name in weights)
    return {name if whole or name.startswith(HEAD) else prefix + name: name for name in weights}


@dataclasses.dataclass(frozen=True)
class Named:
    """Tensors by the names of our tables: the prefix is there, buffers are not."""

    inner: Tensors
    cfg: ModelConfig

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = self.inner.shapes()
        return {name: tuple(shapes[stored]) for name, stored in stored_names(shapes, self.cfg).items()}

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        return self.inner.read(stored_names(self.inner.shapes(), self.cfg)[name], rows)


def fit_vocab(cfg: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> ModelConfig:
    """The model as its tensors are: as many tokens as the embedding has rows, whatever tokenizer and config.json say.

    MPT's configurations are wrong in more: transformers writes no biases whatever `no_bias` says, and four times
    the width whatever `expansion_ratio` says; llm-foundry does what they say.
    """
    have = {name: shapes[stored] for name, stored in stored_names(shapes, cfg).items()}
    embed = have.get(weight_table(cfg)["embed_VD"].hf_name)
    cfg = cfg if embed is None else dataclasses.replace(cfg, vocab=embed[0])
    if weight_table(cfg) is not MPT:
        return cfg
    biases = tuple(name for name in MPT_BIASES if MPT[MPT_BIASES[name]].hf_name.format(0) in have)
    wide = have.get(MPT["up_DF"].hf_name.format(0), (cfg.ffn,))
    return dataclasses.replace(cfg, biases=biases, ffn=wide[0])


def check_names(shapes: Mapping[str, tuple[int, ...]], cfg: ModelConfig) -> None:
    """Raises one ValueError that lists all unknown and missing tensors, and those of another shape than the model's."""
    have = {name: tuple(shapes[stored]) for name, stored in stored_names(shapes, cfg).items()}
    want = {theirs: their_shape(members, cfg) for theirs, members in pieces(cfg).items()}
    if cfg.tied:
        have.pop(HEAD + "weight", None)
    faults = [f"tensor {name} is missing" for name in want.keys() - have.keys()]
    faults += [f"tensor {name} is unknown" for name in have.keys() - want.keys()]
    both = want.keys() & have.keys()
    faults += [f"tensor {n} has shape {have[n]}, not {want[n]}" for n in both if have[n] != want[n]]
    if faults:
        raise ValueError("the checkpoint does not fit its configuration: " + "; ".join(sorted(faults)))


def sizes(cfg: ModelConfig) -> dict[str, int]:
    return {"V": cfg.vocab, "D": cfg.dim, "N": cfg.heads, "K": cfg.kv_heads, "H": cfg.head_dim, "F": cfg.ffn}


def rows_of(entry: WeightEntry, rows: int) -> slice:
    """-> which of the `rows` rows of their tensor are ours."""
    return slice(entry.part * rows // entry.parts, (entry.part + 1) * rows // entry.parts)


def to_ours(x: np.ndarray, name: str, theirs: str, cfg: ModelConfig) -> np.ndarray:
    """One tensor from their axes to those in our name."""
    ours, flat, size = name.rsplit("_", 1)[1], theirs.replace(" ", ""), sizes(cfg)
    return np.asarray(x).reshape([size[a] for a in flat]).transpose([flat.index(a) for a in ours])


def to_theirs(x: np.ndarray, name: str, theirs: str, cfg: ModelConfig) -> np.ndarray:
    ours, flat, size = name.rsplit("_", 1)[1], theirs.replace(" ", ""), sizes(cfg)
    shape = [int(np.prod([size[a] for a in group])) for group in theirs.split()]
    return np.ascontiguousarray(np.asarray(x).transpose([ours.index(a) for a in flat])).reshape(shape)


def from_hf(state: Mapping[str, np.ndarray], cfg: ModelConfig) -> dict[str, np.ndarray]:
    """-> params, without the method's own. `state` holds Hugging Face's tensors by name.

    Raises ValueError naming the tensors that are missing, unknown or of another shape.
    """
    check_names({name: np.shape(x) for name, x in state.items()}, cfg)
    stored = stored_names(state, cfg)

    def one(name: str, layer: int | None) -> np.ndarray:
        entry = weight_table(cfg)[name]
        x = state[stored[entry.hf_name.format(layer)]]
        return to_ours(x[rows_of(entry, len(x))], name, entry.axes, cfg)

    outer = {name: one(name, None) for name in global_shapes(cfg)}
    return outer | {name: np.stack([one(name, layer) for layer in range(cfg.layers)]) for name in layer_shapes(cfg)}


def to_hf(params: Mapping[str, np.ndarray], cfg: ModelConfig) -> dict[str, np.ndarray]:
    """-> Hugging Face's tensors by name; the inverse of `from_hf`."""

    def one(piece: Piece) -> np.ndarray:
        x = params[piece.name] if piece.layer is None else params[piece.name][piece.layer]
        return to_theirs(x, piece.name, piece.entry.axes, cfg)

    return {theirs: np.concatenate([one(piece) for piece in members]) for theirs, members in pieces(cfg).items()}


def meta_to_hf(w: np.ndarray, heads: int, rotary_dim: int | None = None) -> np.ndarray:
    """Rows of a q or k projection [heads * width, ...] from Meta's order to Hugging Face's.

    Meta turns channels (2r, 2r + 1) of a head together, Hugging Face (r, r + R). Scores do not change.
    """
    return _reorder_heads(w, heads, rotary_dim, (-1, 2))


def hf_to_meta(w: np.ndarray, heads: int, rotary_dim: int | None = None) -> np.ndarray:
    """The inverse of `meta_to_hf`."""
    return _reorder_heads(w, heads, rotary_dim, (2, -1))


def _reorder_heads(w, heads, rotary_dim, pairing):
    """Transposes the first `rotary_dim` rows of each head, seen as a `pairing` matrix."""
    w = np.asarray(w)
    by_head = w.reshape(heads, -1, *w.shape[1:]).copy()
    turned = by_head[:, : rotary_dim or by_head.shape[1]]
    turned[:] = turned.reshape(heads, *pairing, *w.shape[1:]).swapaxes(1, 2).reshape(turned.shape)
    return by_head.reshape(w.shape)
