r"""Converts a checkpoint to another format, with a method's positions in its configuration.

  longjax-convert --from=/models/Llama-2-7b --to=hf --out=/models/Llama-2-7b-hf --verify
  longjax-convert --from=/models/Llama-2-7b-hf --to=orbax --out=/models/Llama-2-7b-orbax
  longjax-convert --from=/models/Llama-2-7b-hf --to=hf --out=/models/Llama-2-7b-yarn \
      --method=yarn --method_config="factor=8"
  longjax-convert --from=/models/Llama-2-7b-hf --adapter=/models/Llama-2-7b-longlora-32k \
      --to=hf --out=/models/Llama-2-7b-longlora --method=pi --method_config="factor=8"

  longjax-convert --from=/models/SmolLM2-135M-Instruct.Q4_1.gguf --to=hf --out=/models/SmolLM2-135M-Instruct

--from is a directory of Hugging Face (*.safetensors or *.bin), of Meta (*.pth), one that --to=orbax has written, or a
GGUF file of llama.cpp (llama, qwen2): its quantized weights and its tokenizer become those of a Hugging Face directory.
One tensor at a time is in memory. Training and evaluation read all of these formats without conversion.
"""

import dataclasses
import pathlib
from typing import Literal

import numpy as np
from absl import flags as absl_flags
from absl import logging

from longjax.checkpoints import gguf_files, hf_writer, orbax_params, pretrained
from longjax.checkpoints.config_from_hf import on_base
from longjax.checkpoints.pretrained import DTYPES, Checkpoint, ExportOptions, ModelTensors
from longjax.checkpoints.tensor_source import Tensors
from longjax.cli import flags, stock_logits
from longjax.cli.main import start
from longjax.cli.names import method_by_name
from longjax.methods import Method
from longjax.methods.method import no_params
from longjax.progress import ProgressFn, ThroughputProgress

LOGITS_RTOL = 1e-4  # of the largest logit: float32 sums in another order


@dataclasses.dataclass(frozen=True)
class ConvertOptions:
    """What to convert, to what."""

    from_: str = ""  # directory of the checkpoint to read, or a *.gguf file
    to: Literal["hf", "orbax"] = "hf"  # format to write
    out: str = ""  # directory to write
    adapter: str | None = None  # directory with PEFT adapters or LongLoRA's release, merged into the weights of --from
    merge_lora: bool = True  # merge --adapter into the weights; adapters alone cannot be written
    method: str = ""  # method that the configuration is written for; "": as the configuration of --from
    method_config: str = ""  # parameters of --method, joined by spaces: "factor=8 beta_fast=32"
    length: int | None = None  # longest context of the model, in tokens; None: what the method extends to
    dtype: Literal["bfloat16", "float32", "float16", "source"] | None = None  # None: bfloat16 for hf, source for orbax
    hf_config_style: Literal["both", "4.36"] = "both"  # 4.36: config.json for transformers up to 4.44 only
    file_bytes: int = hf_writer.MAX_FILE_BYTES  # largest size of one file with weights
    verify: bool = False  # read all again; compare logits of --from and --out with transformers', if it is installed

    def __post_init__(self):
        if self.length is not None and self.length < 1:
            raise ValueError(f"--length={self.length} must be at least 1")
        if self.file_bytes < 1:
            raise ValueError(f"--file_bytes={self.file_bytes} must be at least 1")

    def check_paths(self) -> None:
        """Raises ValueError if a directory is missing or the flags contradict each other."""
        for flag, folder in (("from", self.from_), ("out", self.out)):
            if not folder:
                raise ValueError(f"--{flag} is needed: a directory")
        gguf = self.from_.endswith(".gguf")
        if not (pathlib.Path(self.from_).is_file() if gguf else pathlib.Path(self.from_).is_dir()):
            raise ValueError(f"--from={self.from_} is not a {'file' if gguf else 'directory'}")
        if gguf and self.adapter:
            raise ValueError("--adapter: convert the GGUF file first, and then what was written with --adapter")
        if pathlib.Path(self.from_).resolve() == pathlib.Path(self.out).resolve():
            raise ValueError(f"--out={self.out} is --from itself: choose another directory")
        if self.adapter and not self.merge_lora:
            raise ValueError("--nomerge_lora: an adapter is written merged only; without --adapter the base is written")

    def written_dtype(self) -> str:
        """Returns the name in DTYPES of what is written."""
        return self.dtype or ("bfloat16" if self.to == "hf" else "source")


def main(values: absl_flags.FlagValues = absl_flags.FLAGS, argv: list[str] | None = None) -> None:
    """The command longjax-convert."""
    options = flags.define(ConvertOptions, values)
    start(lambda: convert(options()), values, argv, __doc__)


def convert(options: ConvertOptions) -> None:
    """Reads, writes and, with --verify, compares."""
    options.check_paths()
    source = open_source(options)
    tensors = hf_writer.Cast(ModelTensors(source.tensors, source.cfg), DTYPES[options.written_dtype()])
    megabytes = written_bytes(tensors) / 1e6
    notes = write_as(options, source, ThroughputProgress("write", megabytes, "MB"))
    if not options.verify:
        return
    written = pretrained.open_checkpoint(options.out, dtype="float32")
    compare_tensors(tensors, written.tensors, options.out, ThroughputProgress("verify", megabytes, "MB"))
    print(f"all {len(tensors.shapes())} tensors of {options.out} are bit-identical to what was written")
    if (source.folder.is_file() or (source.folder / "config.json").exists()) and not options.adapter:
        compare_logits(source, "from")
    if options.to == "hf" and not notes:
        compare_logits(written, "out")


def open_source(options: ConvertOptions) -> Checkpoint:
    """Returns the checkpoint of --from, with --adapter merged."""
    if options.from_.endswith(".gguf"):
        return gguf_files.open_gguf(pathlib.Path(options.from_), "float32")
    return pretrained.open_checkpoint(options.from_, options.adapter, "float32")


def write_as(options: ConvertOptions, source: Checkpoint, report: ProgressFn) -> list[str]:
    """Writes the checkpoint; returns a note for each difference that remains in stock transformers."""
    tensors, dtype = ModelTensors(source.tensors, source.cfg), options.written_dtype()
    if dtype == "bfloat16" and tensors.read(next(iter(tensors.shapes())), slice(0, 0)).dtype == np.float16:
        logging.warning("--dtype=bfloat16 has 3 bits less than the float16 of --from; --dtype=source keeps them")
    if options.to == "hf":
        export = ExportOptions(dtype, options.hf_config_style, options.length, options.file_bytes)
        return pretrained.write_checkpoint(
            pathlib.Path(options.out), tensors, source.cfg, target_method(options, source), source, {}, export, report
        )
    if options.method:
        raise ValueError(f"--method={options.method} is for --to=hf: orbax parameters keep the configuration of --from")
    cast = hf_writer.Cast(tensors, DTYPES[dtype])
    copied = source.text_files()
    orbax_params.write_orbax(pathlib.Path(options.out), cast, source.cfg, source.config, copied, report)
    return []


def target_method(options: ConvertOptions, source: Checkpoint) -> Method:
    """Returns the method of --method on this base; without --method, that of the base."""
    if not options.method:
        return source.method
    method = on_base(method_by_name(options.method, options.method_config), source.method)
    if method.init_params is not no_params or method.insert_tokens:
        raise ValueError(
            f"--method={options.method} has trained parameters: longjax-train writes such a model, with --export_dir"
        )
    return method


def compare_tensors(want: Tensors, got: Tensors, out: str, report: ProgressFn) -> None:
    """Raises ValueError naming a tensor that is not bit-identical. `out` is the directory of `got`."""
    names = list(want.shapes())
    if set(names) != set(got.shapes()):
        raise ValueError(f"--out={out}: these tensors are not in both: {set(names) ^ set(got.shapes())}")
    for done, name in enumerate(names):
        x, y = want.read(name), got.read(name)
        if x.dtype != y.dtype or x.shape != y.shape or not np.array_equal(as_bytes(x), as_bytes(y)):
            raise ValueError(f"--out={out}: {name} is not what was written; check the disk")
        report((done + 1) / len(names), name)


def as_bytes(x: np.ndarray) -> np.ndarray:
    """Returns the bytes of an array, so that NaN equals NaN."""
    return np.ascontiguousarray(x).reshape(-1).view(np.uint8)


def compare_logits(checkpoint: Checkpoint, flag: str) -> None:
    """Raises ValueError if longjax and transformers compute different logits from the directory of a flag."""
    tokens_BT = np.random.default_rng(0).integers(0, checkpoint.cfg.vocab, (2, 64))
    try:
        want = stock_logits.transformers_logits(checkpoint.folder, tokens_BT)
    except Exception as error:  # the peer's own, of any type: a release that does not know the model, a missing package
        reason, *_ = str(error).splitlines() or [repr(error)]
        print(f"logits of --{flag} are not compared: transformers cannot load it ({reason})")
        return
    if want is None:
        print(f"logits of --{flag} are not compared: torch and transformers are not installed")
        return
    got = stock_logits.longjax_logits(checkpoint, tokens_BT)
    worst, largest = float(np.abs(got - want).max()), float(np.abs(want).max())
    print(
        f"logits of --{flag}: those of 2 x 64 tokens differ from transformers' by {worst:.1e} at most; "
        f"the largest is {largest:.1f}"
    )
    if not worst <= LOGITS_RTOL * max(largest, 1.0):
        raise ValueError(f"--{flag}={checkpoint.folder}: transformers computes other logits, by {worst:.1e}")


def written_bytes(tensors: hf_writer.Cast) -> int:
    """Returns about how many bytes are written, as if all tensors had the first one's type."""
    shapes = tensors.shapes()
    return tensors.dtype_of(next(iter(shapes))).itemsize * sum(int(np.prod(shape)) for shape in shapes.values())
