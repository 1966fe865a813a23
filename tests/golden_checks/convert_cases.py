"""Writes cases for the golden check of checkpoints with transformers: small models, everything random.

python -m golden_checks.convert_cases DIR              the cases that are committed
python -m golden_checks.convert_cases DIR --random=20  this many of each family, drawn by seed
"""

import argparse
import copy
import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import transformers  # pyright: ignore[reportMissingImports]
from safetensors import safe_open  # pyright: ignore[reportMissingImports]

SIZES = {"vocab_size": 29, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = SIZES | {"intermediate_size": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 32}
PHI = SIZES | {"intermediate_size": 40, "max_position_embeddings": 32, "hidden_size": 24}
PHI |= {"num_attention_heads": 3, "num_key_value_heads": 3}
MPT = {"vocab_size": 29, "d_model": 12, "n_layers": 2, "n_heads": 6, "max_seq_len": 64}
ROPES = {
    "default": {},
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 32},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
    "longrope": {"factor": 4.0, "original_max_position_embeddings": 32},
}


class Case(NamedTuple):
    name: str
    family: str
    fields: dict[str, Any]
    lengths: tuple[int, ...] = (40,)
    dtype: str = "float32"
    shard: str = "5GB"
    older: bool = False  # config.json as transformers 4 wrote it


def rope(kind: str, theta: float = 10_000.0, pairs: int = 2, most: int = 128) -> dict[str, Any]:
    parameters = {"rope_type": kind, "rope_theta": theta} | ROPES[kind]
    if kind == "longrope":
        parameters |= {
            "short_factor": [1.0 + 0.1 * r for r in range(pairs)],
            "long_factor": [1.5 + r for r in range(pairs)],
        }
    return {"rope_parameters": parameters, "max_position_embeddings": 32 if kind == "dynamic" else most}


CASES = [
    Case("llama", "llama", LLAMA | {"rms_norm_eps": 3e-3}),
    Case(
        "llama_bf16_sharded", "llama", dtype="bfloat16", shard="4KB",
        fields=LLAMA | {"head_dim": 6, "attention_bias": True, "mlp_bias": True},
    ),
    Case("llama_tied_fp16", "llama", LLAMA | {"tie_word_embeddings": True}, dtype="float16"),
    *(Case(f"llama_{kind}", "llama", LLAMA | rope(kind)) for kind in ("linear", "yarn", "llama3")),
    *(Case(f"llama_{kind}", "llama", LLAMA | rope(kind), (24, 40)) for kind in ("dynamic", "longrope")),
    *(Case(f"llama_{kind}_older", "llama", LLAMA | rope(kind, 5e5), older=True) for kind in ("yarn", "llama3")),
    Case("mistral_window", "mistral", LLAMA | {"sliding_window": 8, "rms_norm_eps": 1e-6}, (8, 40)),
    Case("mistral_full", "mistral", LLAMA | {"sliding_window": None, "head_dim": 6} | rope("default", 1e6), older=True),
    Case("qwen2", "qwen2", LLAMA | rope("default", 1e6)),
    Case("qwen2_tied_yarn", "qwen2", LLAMA | {"tie_word_embeddings": True} | rope("yarn"), older=True),
    Case("phi", "phi", PHI | {"layer_norm_eps": 2e-3}),
    Case("phi_dynamic", "phi", PHI | rope("dynamic"), (24, 40), older=True),
    Case("mpt", "mpt", MPT | {"attn_config": {"clip_qkv": 0.9}, "layer_norm_epsilon": 2e-3}),
    Case("mpt_scale", "mpt", MPT | {"n_heads": 4, "attn_config": {"softmax_scale": 0.7}}),
]  # fmt: skip


def random_case(family: str, seed: int) -> Case:
    """Return a case with sizes, options and RoPE type by seed; sizes differ wherever they can."""
    draw = random.Random(f"{family}{seed}")
    heads, width, layers = draw.randint(1, 7), draw.choice([4, 6, 8, 12]), draw.randint(1, 3)
    common = {"vocab_size": draw.randint(20, 60), "tie_word_embeddings": draw.random() < 0.3}
    case: dict[str, Any] = {
        "dtype": draw.choice(["float32", "bfloat16", "float16"]),
        "shard": draw.choice(["5GB", "6KB"]),
    }
    if family == "mpt":
        attention = {"clip_qkv": draw.choice([None, 0.7]), "softmax_scale": draw.choice([None, 0.4])}
        fields = {"d_model": heads * width, "n_heads": heads, "n_layers": layers, "max_seq_len": 64}
        fields |= {"vocab_size": common["vocab_size"], "attn_config": attention, "no_bias": draw.random() < 0.5}
        return Case(
            f"mpt_{seed}", "mpt", fields | {"expansion_ratio": draw.choice([4, 2])}, (draw.randint(2, 64),), **case
        )
    fields = common | {
        "num_attention_heads": heads, "num_hidden_layers": layers, "intermediate_size": draw.randint(9, 50),
        "hidden_size": heads * width,
        "num_key_value_heads": draw.choice([n for n in range(1, heads + 1) if heads % n == 0]),
    }  # fmt: skip
    if family in ("llama", "mistral") and draw.random() < 0.5:
        fields |= {"head_dim": width + 2}
        width += 2
    if family == "llama":
        fields |= {"attention_bias": draw.random() < 0.5, "mlp_bias": draw.random() < 0.5}
    if family == "mistral":
        fields["sliding_window"] = draw.choice([None, 1, 5, 200])
    if family == "qwen2" and draw.random() < 0.5:
        fields |= {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": draw.choice([0, 5])}
    share = draw.choice([0.4, 0.5, 1.0]) if family == "phi" else 1.0
    turned = int(width * share) // 2 * 2
    kind = draw.choice(list(ROPES))
    parameters = rope(kind, draw.choice([1e4, 5e5]), turned // 2)
    if family == "phi":
        fields |= {"hidden_act": draw.choice(["gelu_new", "gelu"])}
        parameters["rope_parameters"]["partial_rotary_factor"] = turned / width
    lengths = (draw.randint(2, 31), draw.randint(33, 80))
    return Case(f"{family}_{seed}", family, fields | parameters, lengths, older=draw.random() < 0.5, **case)


def make_model(case: Case) -> torch.nn.Module:
    """Return a model with random parameters in the dtype of its file."""
    torch.manual_seed(len(case.name))
    config = transformers.AutoConfig.for_model(case.family, **copy.deepcopy(case.fields))
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for name, x in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            x.data.uniform_(0.5, 1.5)
        elif name.endswith("bias"):
            x.data.normal_(0.0, 0.3)
        else:
            x.data.normal_(0.0, 1.5 / x.shape[-1] ** 0.5)
    return model.to(getattr(torch, case.dtype))


def write_logits(model: torch.nn.Module, lengths: tuple[int, ...], folder: Path) -> None:
    """Write logits.npz, in float32."""
    arrays, rng = {}, np.random.default_rng(0)
    vocab = model.get_output_embeddings().weight.shape[0]  # pyright: ignore[reportCallIssue]
    for T in lengths:
        ids_BT = torch.tensor(rng.integers(0, vocab, (2, T)))
        with torch.no_grad():
            logits_BTV = model(ids_BT).logits
        nll_BT = torch.nn.functional.cross_entropy(logits_BTV[:, :-1].mT, ids_BT[:, 1:], reduction="none")
        arrays |= {
            f"input_ids_{T}": ids_BT.int().numpy(),
            f"logits_{T}": logits_BTV.numpy(),
            f"nll_{T}": nll_BT.numpy(),
        }
    np.savez_compressed(folder / "logits.npz", **arrays)


def write_tensors(folder: Path) -> None:
    """Write tensors.json: the tensors in the files of hf/."""
    parameters = {}
    for path in sorted((folder / "hf").glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                parameters[name] = {"file": path.name, "shape": part.get_shape(), "dtype": part.get_dtype()}
    (folder / "tensors.json").write_text(json.dumps(parameters, indent=1) + "\n")


def age(path: Path) -> None:
    """Rewrite config.json as transformers 4 wrote it."""
    config = json.loads(path.read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    if "partial_rotary_factor" in parameters:
        config["partial_rotary_factor"] = parameters.pop("partial_rotary_factor")
    kind = parameters.pop("rope_type")
    name = "rope_type" if kind == "llama3" else "type"
    config["rope_scaling"] = None if kind == "default" else {name: kind} | parameters
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=1) + "\n")


def write(case: Case, parent: Path) -> Path:
    folder = parent / case.name
    model = make_model(case)
    model.save_pretrained(folder / "hf", max_shard_size=case.shard)  # pyright: ignore[reportCallIssue]
    (folder / "hf" / "generation_config.json").unlink(missing_ok=True)
    if case.older:
        age(folder / "hf" / "config.json")
    write_logits(load(folder / "hf"), case.lengths, folder)
    write_tensors(folder)
    return folder


def load(folder: Path) -> torch.nn.Module:
    """Load a model in float32 from its file, since one that was in bfloat16 has rounded frequencies."""
    auto = transformers.AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def write_bin(folder: Path, shards: int = 2) -> None:
    """Rewrite hf/ as transformers 4.30 wrote it: .bin files, an index, and buffers in them."""
    whole, where = {}, {}
    for path in (folder / "hf").glob("*.safetensors*"):
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                whole |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        path.unlink()
    whole["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(2)
    for i in range(shards):
        name = f"pytorch_model-{i + 1:05}-of-{shards:05}.bin"
        part = dict(list(whole.items())[i::shards])
        torch.save(part, folder / "hf" / name)
        where |= dict.fromkeys(part, name)
    (folder / "hf" / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    (folder / "tensors.json").unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--random", type=int, default=0)
    args = parser.parse_args()
    for seed in range(args.random):
        for family in ("llama", "mistral", "qwen2", "phi", "mpt"):
            write(random_case(family, seed), args.folder)
    if not args.random:
        for case in CASES:
            write(case, args.folder)
        write_bin(
            write(Case("llama_linear_bin", "llama", LLAMA | rope("linear"), dtype="float16", older=True), args.folder)
        )


if __name__ == "__main__":
    main()
