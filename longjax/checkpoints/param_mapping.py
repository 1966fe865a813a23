"""Parameters from and to Hugging Face's tensors. NumPy only; what differs between families is in families.py.

"hf" names and shapes are those of the checkpoint, others those of llama.py.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from longjax.checkpoints.families import HEAD, MPT, MPT_BIASES, WeightEntry, ignored, weight_table
from longjax.checkpoints.json_files import first_names
from longjax.checkpoints.tensor_source import Tensors
from longjax.config import ModelConfig
from longjax.model.llama import global_shapes, layer_shapes

MAX_LAYERS = 1000  # of any model that is known, and more
BLOCK_ROWS = 4096  # rows of a matrix that are compared at once
FOREIGN_PREFIXES = re.compile(r"((module|_orig_mod|_forward_module|base_model\.model)\.)*")  # of wrappers in PyTorch


class TensorMember(NamedTuple):
    """A parameter, or one layer of it, within a Hugging Face tensor."""

    name: str
    layer: int | None
    entry: WeightEntry


def tensor_members(cfg: ModelConfig) -> dict[str, list[TensorMember]]:
    """Returns each Hugging Face tensor's members, in the order of its rows."""
    table, members = weight_table(cfg), [(name, None) for name in global_shapes(cfg)]
    members += [(name, layer) for name in layer_shapes(cfg) for layer in range(cfg.layers)]
    tensors: dict[str, list[TensorMember]] = {}
    for name, layer in members:
        tensors.setdefault(table[name].hf_name.format(layer), []).append(TensorMember(name, layer, table[name]))
    return {hf_name: sorted(group, key=lambda member: member.entry.part) for hf_name, group in tensors.items()}


def hf_shape(members: list[TensorMember], cfg: ModelConfig) -> tuple[int, ...]:
    """Returns the shape of the Hugging Face tensor that has these members."""
    size = axis_sizes(cfg)
    shapes = [[int(np.prod([size[a] for a in group])) for group in member.entry.axes.split()] for member in members]
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def stored_names(names: Iterable[str], cfg: ModelConfig) -> dict[str, str]:
    """Returns {name in the family's table: name in the checkpoint}, without buffers.

    Base models are saved without the prefix of the table ("model."), wrapped ones with that of the wrapper.
    """
    prefix = weight_table(cfg)["embed_VD"].hf_name.split(".")[0] + "."
    weights = {name: FOREIGN_PREFIXES.sub("", name, count=1) for name in names if not ignored(name)}
    prefixed = any(bare.startswith(prefix) for bare in weights.values())
    stored: dict[str, str] = {}
    for name, bare in weights.items():
        table_name = bare if prefixed or bare.startswith(HEAD) else prefix + bare
        if table_name in stored:
            raise ValueError(f"the checkpoint has {stored[table_name]} and {name}, which are the same: remove one")
        stored[table_name] = name
    return stored


@dataclasses.dataclass(frozen=True)
class TableTensors:
    """A checkpoint's tensors by the names of the family's table, without buffers: a `Tensors`."""

    inner: Tensors
    cfg: ModelConfig

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = self.inner.shapes()
        return {name: tuple(shapes[stored]) for name, stored in stored_names(shapes, self.cfg).items()}

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        x = self.inner.read(stored_names(self.inner.shapes(), self.cfg)[name], rows)
        if x.dtype.kind in "biuc":
            raise ValueError(f"tensor {name} is of type {x.dtype}: a quantized model must be converted to floats first")
        return x


def fit_vocab(cfg: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> ModelConfig:
    """Returns the configuration as the tensors are: the vocabulary has as many tokens as the embedding has rows.

    MPT's configurations are wrong in more: transformers writes no biases whatever `no_bias` says, and four times
    the width whatever `expansion_ratio` says; llm-foundry does what they say.
    """
    stored = {name: shapes[name_in_file] for name, name_in_file in stored_names(shapes, cfg).items()}
    embed = stored.get(weight_table(cfg)["embed_VD"].hf_name)
    cfg = cfg if embed is None else dataclasses.replace(cfg, vocab=embed[0])
    if weight_table(cfg) is not MPT:
        return cfg
    biases = tuple(name for name in MPT_BIASES if MPT[MPT_BIASES[name]].hf_name.format(0) in stored)
    up = stored.get(MPT["up_DF"].hf_name.format(0), (cfg.ffn,))
    return dataclasses.replace(cfg, biases=biases, ffn=up[0])


def check_names(shapes: Mapping[str, tuple[int, ...]], cfg: ModelConfig) -> None:
    """Raises one ValueError that lists unknown and missing tensors, and those of another shape than the model's."""
    if cfg.layers > max(len(shapes), MAX_LAYERS):  # before the names of all layers are made
        raise ValueError(f"config.json has num_hidden_layers={cfg.layers}, but the checkpoint {len(shapes)} tensors")
    have = {name: tuple(shapes[stored]) for name, stored in stored_names(shapes, cfg).items()}
    want = {hf_name: hf_shape(members, cfg) for hf_name, members in tensor_members(cfg).items()}
    if cfg.tied:
        have.pop(HEAD + "weight", None)
    faults = [f"tensor {name} is missing" for name in want.keys() - have.keys()]
    faults += [f"tensor {name} is unknown" for name in have.keys() - want.keys()]
    both = want.keys() & have.keys()
    faults += [f"tensor {n} has shape {have[n]}, not {want[n]}" for n in both if have[n] != want[n]]
    if faults:
        raise ValueError("the checkpoint does not fit its configuration: " + first_names(faults, separator="; "))


def check_tied_head(tensors: Tensors, cfg: ModelConfig) -> None:
    """Raises ValueError if a tied model is stored with a head that is not its embedding, and so would not be used."""
    named = TableTensors(tensors, cfg)
    shapes, head, embed = named.shapes(), HEAD + "weight", weight_table(cfg)["embed_VD"].hf_name
    if not cfg.tied or head not in shapes:
        return
    blocks = [slice(start, start + BLOCK_ROWS) for start in range(0, shapes[embed][0], BLOCK_ROWS)]
    same = (np.array_equal(named.read(head, rows), named.read(embed, rows)) for rows in blocks)
    if shapes[head] != shapes[embed] or not all(same):
        raise ValueError(
            f"config.json ties the head to the embedding, but {head} is another: set tie_word_embeddings to false if "
            "the model has a head of its own, or remove the tensor"
        )


def axis_sizes(cfg: ModelConfig) -> dict[str, int]:
    """Returns the size of each axis by its letter."""
    return {"V": cfg.vocab, "D": cfg.dim, "N": cfg.heads, "K": cfg.kv_heads, "H": cfg.head_dim, "F": cfg.ffn}


def member_rows(entry: WeightEntry, rows: int) -> slice:
    """Returns which of a tensor's `rows` rows are the member's."""
    return slice(entry.part * rows // entry.parts, (entry.part + 1) * rows // entry.parts)


def from_hf_axes(x: np.ndarray, name: str, hf_axes: str, cfg: ModelConfig) -> np.ndarray:
    """Returns a tensor with the axes of the parameter `name`, from those of Hugging Face."""
    axes, flat, size = name.rsplit("_", 1)[1], hf_axes.replace(" ", ""), axis_sizes(cfg)
    return np.asarray(x).reshape([size[a] for a in flat]).transpose([flat.index(a) for a in axes])


def to_hf_axes(x: np.ndarray, name: str, hf_axes: str, cfg: ModelConfig) -> np.ndarray:
    """Returns the parameter `name` with the axes of Hugging Face; the inverse of `from_hf_axes`."""
    axes, flat, size = name.rsplit("_", 1)[1], hf_axes.replace(" ", ""), axis_sizes(cfg)
    shape = [int(np.prod([size[a] for a in group])) for group in hf_axes.split()]
    return np.ascontiguousarray(np.asarray(x).transpose([axes.index(a) for a in flat])).reshape(shape)


def from_hf(state: Mapping[str, np.ndarray], cfg: ModelConfig) -> dict[str, np.ndarray]:
    """Converts Hugging Face's tensors to parameters, layers stacked; the method's own are not among them.

    Args:
      state: tensors by name.
      cfg: of the model.

    Raises:
      ValueError: tensors are missing, unknown or of another shape; all of them are named.

    """
    check_names({name: np.shape(x) for name, x in state.items()}, cfg)
    stored = stored_names(state, cfg)

    def convert(name: str, layer: int | None) -> np.ndarray:
        entry = weight_table(cfg)[name]
        x = state[stored[entry.hf_name.format(layer)]]
        return from_hf_axes(x[member_rows(entry, len(x))], name, entry.axes, cfg)

    params = {name: convert(name, None) for name in global_shapes(cfg)}
    layers = range(cfg.layers)
    return params | {name: np.stack([convert(name, layer) for layer in layers]) for name in layer_shapes(cfg)}


def to_hf(params: Mapping[str, np.ndarray], cfg: ModelConfig) -> dict[str, np.ndarray]:
    """Converts parameters to Hugging Face's tensors by name; the inverse of `from_hf`."""

    def convert(member: TensorMember) -> np.ndarray:
        x = params[member.name] if member.layer is None else params[member.name][member.layer]
        return to_hf_axes(x, member.name, member.entry.axes, cfg)

    return {name: np.concatenate([convert(member) for member in group]) for name, group in tensor_members(cfg).items()}


def meta_to_hf(w: np.ndarray, heads: int, rotary_dim: int | None = None) -> np.ndarray:
    """Reorders the rows of a q or k projection [heads * width, ...] from Meta's order to Hugging Face's.

    Meta rotates channels (2r, 2r + 1) of a head together, Hugging Face (r, r + R). Attention scores do not change.
    """
    return _reorder_heads(w, heads, rotary_dim, (-1, 2))


def reordered_rows(read: Callable[[slice], np.ndarray], start: int, stop: int, width: int) -> np.ndarray:
    """Reads rows of a q or k projection that is stored in Meta's order, in Hugging Face's.

    Args:
      read: reads rows as they are stored.
      start: the first row.
      stop: the row behind the last one, above `start`.
      width: rows of a head; whole heads are read.

    """
    first, last = start // width, -(-stop // width)
    x = meta_to_hf(read(slice(first * width, last * width)), last - first)
    return x[start - first * width : stop - first * width]


def hf_to_meta(w: np.ndarray, heads: int, rotary_dim: int | None = None) -> np.ndarray:
    """The inverse of `meta_to_hf`."""
    return _reorder_heads(w, heads, rotary_dim, (2, -1))


def _reorder_heads(w, heads, rotary_dim, pairing):
    """Transposes the first `rotary_dim` rows of each head, seen as a `pairing` matrix."""
    w = np.asarray(w)
    by_head = w.reshape(heads, -1, *w.shape[1:]).copy()
    rotated = by_head[:, : rotary_dim or by_head.shape[1]]
    rotated[:] = rotated.reshape(heads, *pairing, *w.shape[1:]).swapaxes(1, 2).reshape(rotated.shape)
    return by_head.reshape(w.shape)
