r"""A checkpoint from one format to another, with a method's positions in its configuration.

  python -m tools.convert_checkpoint --from=/models/Llama-2-7b --to=hf --out=/models/Llama-2-7b-hf --verify
  python -m tools.convert_checkpoint --from=/models/Llama-2-7b-hf --to=orbax --out=/models/Llama-2-7b-orbax
  python -m tools.convert_checkpoint --from=/models/Llama-2-7b-hf --to=hf --out=/models/Llama-2-7b-yarn \
      --method=yarn --method_config="factor=8"
  python -m tools.convert_checkpoint --from=/models/Llama-2-7b-hf --adapter=/models/Llama-2-7b-longlora-32k \
      --to=hf --out=/models/Llama-2-7b-longlora --method=pi --method_config="factor=8"

--from is a directory of Hugging Face (*.safetensors or *.bin), of Meta (*.pth), or one that --to=orbax has written.
One tensor at a time is in memory. Nothing has to be converted for training: experiments read all of these.
"""

import pathlib

import numpy as np
from absl import flags, logging

from longjax.checkpoints import hf_writer, orbax_params, pretrained
from longjax.checkpoints.config_from_hf import on_base
from longjax.checkpoints.pretrained import DTYPES, Checkpoint, ExportOptions, ReservedRowsDropped
from longjax.checkpoints.tensor_source import Tensors
from longjax.cli import main as cli
from longjax.cli import names as cli_names
from longjax.methods import Method
from longjax.methods.method import no_params
from longjax.progress import ProgressFn, ThroughputProgress

VALUES = flags.FLAGS if __name__ == "__main__" else flags.FlagValues()  # a test leaves those of others alone

FROM = flags.DEFINE_string("from", "", "The checkpoint to read.", flag_values=VALUES)
TO = flags.DEFINE_enum("to", "hf", ["hf", "orbax"], "The format to write.", flag_values=VALUES)
OUT = flags.DEFINE_string("out", "", "The directory to write.", flag_values=VALUES)
ADAPTER = flags.DEFINE_string(
    "adapter", "", "Adapters of PEFT, or LongLoRA's release, that change --from.", flag_values=VALUES
)
MERGE_LORA = flags.DEFINE_bool(
    "merge_lora", True, "Adds --adapter to the weights. Nothing else can be written.", flag_values=VALUES
)
METHOD = flags.DEFINE_string(
    "method", "", "The model is for this method of longjax; none: as --from says.", flag_values=VALUES
)
METHOD_CONFIG = flags.DEFINE_string(
    "method_config", "", 'Its parameters, with spaces: "factor=8 beta_fast=32".', flag_values=VALUES
)
LENGTH = flags.DEFINE_integer(
    "length", None, "Tokens that the model is for; none: what the method says.", 1, flag_values=VALUES
)
DTYPE = flags.DEFINE_enum(
    "dtype", None, [*DTYPES], "None: bfloat16 for hf, and source, as it is, for orbax.", flag_values=VALUES
)
STYLE = flags.DEFINE_enum(
    "hf_config_style", "both", ["both", "4.36"], "4.36: for transformers up to 4.44 alone.", flag_values=VALUES
)
FILE_BYTES = flags.DEFINE_integer(
    "file_bytes", hf_writer.MOST_BYTES, "Of one file with weights, at most.", 1, flag_values=VALUES
)
VERIFY = flags.DEFINE_bool(
    "verify", False,
    "Reads all tensors again, and compares logits with transformers' if that and torch are installed; the latter "
    "takes memory for the model in float32, twice.", flag_values=VALUES,
)  # fmt: skip
SAME_LOGITS = 1e-4  # of the largest: float32 sums in another order


def main() -> None:
    for flag in (FROM, OUT):
        if not flag.value:
            raise ValueError(f"--{flag.name} is needed: a directory")
    if not pathlib.Path(FROM.value).is_dir():
        raise ValueError(f"--from={FROM.value} is not a directory")
    if pathlib.Path(FROM.value).resolve() == pathlib.Path(OUT.value).resolve():
        raise ValueError(f"--out={OUT.value} is --from itself: choose another directory")
    if ADAPTER.value and not MERGE_LORA.value:
        raise ValueError("--nomerge_lora: an adapter is written merged only; without --adapter the base is written")
    source = pretrained.open_checkpoint(FROM.value, ADAPTER.value or None, "float32", "from")
    dtype = DTYPE.value or ("bfloat16" if TO.value == "hf" else "source")
    notes = write(source, dtype, ThroughputProgress("write", size(source, dtype) / 1e6, "MB"))
    if VERIFY.value:
        verify(source, dtype, notes)


def write(source: Checkpoint, dtype: str, report: ProgressFn) -> list[str]:
    """-> what stock transformers will do otherwise."""
    tensors, out = ReservedRowsDropped(source.tensors, source.cfg), pathlib.Path(OUT.value)
    if dtype == "bfloat16" and tensors.read(next(iter(tensors.shapes())), slice(0, 0)).dtype == np.float16:
        logging.warning("--dtype=bfloat16 has 3 bits less than the float16 of --from; --dtype=source keeps them")
    if TO.value == "hf":
        how = ExportOptions(dtype, "both" if STYLE.value == "both" else "4.36", LENGTH.value, FILE_BYTES.value)
        return pretrained.write_checkpoint(out, tensors, source.cfg, method_of(source), source, {}, how, report)
    if METHOD.value:
        raise ValueError(f"--method={METHOD.value} is for --to=hf: orbax parameters keep the configuration of --from")
    cast = hf_writer.Cast(tensors, DTYPES[dtype])
    orbax_params.write_orbax(out, cast, source.cfg, source.config, hf_writer.copied(source.folder), report)
    return []


def method_of(source: Checkpoint) -> Method:
    """The method that the flags ask for, on this base."""
    if not METHOD.value:
        return source.method
    method = on_base(cli_names.method_by_name(METHOD.value, METHOD_CONFIG.value), source.method)
    if method.init_params is not no_params or method.insert_tokens:
        raise ValueError(f"--method={METHOD.value} has parameters that are trained: experiments write it, --export_dir")
    return method


def verify(source: Checkpoint, dtype: str, notes: list[str]) -> None:
    written = pretrained.open_checkpoint(OUT.value, dtype="float32", flag="out")
    want = hf_writer.Cast(ReservedRowsDropped(source.tensors, source.cfg), DTYPES[dtype])
    compare(want, written.tensors, ThroughputProgress("verify", size(source, dtype) / 1e6, "MB"))
    print(f"all {len(want.shapes())} tensors of {OUT.value} are what was written, bit by bit")
    if TO.value == "hf" and not notes:
        compare_logits(written)


def compare(want: Tensors, got: Tensors, report: ProgressFn) -> None:
    """Raises ValueError naming a tensor that is not the same to the bit."""
    names = list(want.shapes())
    if set(names) != set(got.shapes()):
        raise ValueError(f"--out={OUT.value}: these tensors are not in both: {set(names) ^ set(got.shapes())}")
    for done, name in enumerate(names):
        x, y = want.read(name), got.read(name)
        if x.dtype != y.dtype or x.shape != y.shape or not np.array_equal(as_bytes(x), as_bytes(y)):
            raise ValueError(f"--out={OUT.value}: {name} is not what was written; is the disk sound?")
        report((done + 1) / len(names), name)


def as_bytes(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(-1).view(np.uint8)


def compare_logits(written: Checkpoint) -> None:
    """Raises ValueError if transformers computes something else from the directory than we do."""
    from tools import stock_logits

    tokens_BT = np.random.default_rng(0).integers(0, written.cfg.vocab, (2, 64))
    theirs = stock_logits.theirs(written.folder, tokens_BT)
    if theirs is None:
        print("logits are not compared: torch and transformers are not installed")
        return
    ours = stock_logits.ours(written, tokens_BT)
    worst, largest = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
    print(f"logits of 2 x 64 tokens differ from transformers' by {worst:.1e} at most; the largest is {largest:.1f}")
    if not worst <= SAME_LOGITS * max(largest, 1.0):
        raise ValueError(f"--out={OUT.value}: transformers computes other logits, by {worst:.1e}")


def size(source: Checkpoint, dtype: str) -> int:
    """-> bytes that are written, about: as if all tensors were of the first one's type."""
    cast = hf_writer.Cast(ReservedRowsDropped(source.tensors, source.cfg), DTYPES[dtype])
    shapes = cast.shapes()
    return cast.dtype_of(next(iter(shapes))).itemsize * sum(int(np.prod(shape)) for shape in shapes.values())


if __name__ == "__main__":
    cli.start(main, VALUES)
