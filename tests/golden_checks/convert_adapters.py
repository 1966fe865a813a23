"""Writes cases for the golden check of checkpoints with PEFT: python -m golden_checks.convert_adapters DIR."""

import sys
from pathlib import Path
from typing import Any

import peft  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]
from safetensors import safe_open  # pyright: ignore[reportMissingImports]

from golden_checks.convert_cases import LLAMA, Case, make_model, write, write_logits


def adapted(parent: Path, name: str, **lora: Any) -> tuple[Path, Any]:
    """Return the folder of a base with PEFT's adapter, and the model of both together."""
    folder = write(Case(name, "llama", LLAMA), parent)
    torch.manual_seed(1)
    model = peft.get_peft_model(make_model(Case(name, "llama", LLAMA)), peft.LoraConfig(task_type="CAUSAL_LM", **lora))
    for key, x in model.named_parameters():
        if x.requires_grad:
            x.data.normal_(1.0 if "norm" in key else 0.0, 0.3)
    model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    (folder / "tensors.json").unlink()
    return folder, model.merge_and_unload()


def age_adapter(folder: Path) -> None:
    """Rewrite the adapter as older versions of PEFT saved it."""
    path, older = folder / "adapter_model.safetensors", {}
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118
            aged = name.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default.")
            older[aged] = file.get_tensor(name)
    torch.save(older, folder / "adapter_model.bin")
    path.unlink()


def write_adapters(parent: Path) -> None:
    attention = ["q_proj", "k_proj", "v_proj", "o_proj"]
    patterns = {"rank_pattern": {"k_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 3}}
    rs = {"r": 4, "lora_alpha": 6, "use_rslora": True, "target_modules": attention} | patterns
    folder, model = adapted(parent, "lora_rs_patterns", **rs)
    write_logits(model, (40,), folder)
    saved = ["embed_tokens", "norm", "input_layernorm", "lm_head"]
    folder, model = adapted(parent, "lora_saved_bin", r=3, target_modules=["up_proj", "o_proj"], modules_to_save=saved)
    write_logits(model, (40,), folder)
    age_adapter(folder / "adapter")
    write_longlora(*adapted(parent, "longlora_release", r=4, lora_alpha=8, target_modules=attention))


def write_longlora(folder: Path, model: Any) -> None:
    """Write a case like LongLoRA's release: one more token with the mean output, trained embedding and norms."""
    model.resize_token_embeddings(LLAMA["vocab_size"] + 1, mean_resizing=False)
    model.lm_head.weight.data[-1] = model.lm_head.weight.data[:-1].mean(0)
    trained = {name: x.data for name, x in model.named_parameters() if "embed" in name or "norm" in name}
    for x in trained.values():
        x.normal_(1.0, 0.3)
    write_logits(model, (40,), folder)
    age_adapter(folder / "adapter")
    torch.save(trained, folder / "adapter" / "trainable_params.bin")


if __name__ == "__main__":
    write_adapters(Path(sys.argv[1]))
