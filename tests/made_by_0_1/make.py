"""Makes the files beside it with longjax 0.1: at commit 842d132, in its root, `python .../make.py OUT`.

The text is made again by the tests (`write_text`), and the tokenizer is that of tests/base: neither is kept here.
"""

import json
import os
import pathlib
import random
import shutil
import sys
import tarfile

WORDS = (
    "river", "stone", "light", "under", "open", "window", "paper", "garden", "small", "number", "letter", "winter",
    "road", "house", "clear", "evening",
)  # fmt: skip
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
ROOT = pathlib.Path(__file__).parent.parent
LORA = ["--lora_rank=2"]
METHODS_AND_FLAGS = {"yarn": [], "longlora": [], "clex": LORA, "self_extend": []}


def write_text(folder):
    """Writes 240 documents of 4,500 characters, the same on every machine."""
    folder.mkdir(parents=True)
    rng = random.Random(0)
    for number in range(240):
        words = [WORDS[int(rng.random() * len(WORDS))] for _ in range(800)]
        (folder / f"{number}.txt").write_text(" ".join(words)[:4500])


def write_base(folder):
    """Writes a LLaMA of 5,000 random parameters."""
    import jax
    from longjax.hf import pretrained

    from longjax import launch
    from longjax.config import ModelConfig
    from longjax.methods import Method

    cfg = ModelConfig(
        vocab=512, dim=4, layers=2, heads=2, kv_heads=2, ffn=8, head_width=4, rope_base=100.0, trained_len=32
    )
    params = jax.device_get(launch.initial(cfg, 0))
    pretrained.export(folder, params, cfg, Method(), how=pretrained.How("float32"))
    add_tokenizer(folder)


def add_tokenizer(folder):
    shutil.copyfile(ROOT / "base" / "tokenizer.model", folder / "tokenizer.model")


def preset():
    from longjax.blockwise import Blockwise
    from longjax.preset import At, Preset, Stage, Variant
    from longjax.train import Recipe

    from longjax.config import ModelConfig
    from longjax.evals.perplexity import PerplexityTest

    test = PerplexityTest("nested", ppl_data="held_out", num_windows=1)
    return Preset(
        model=ModelConfig(dtype="float32"), extended=64, base=None,
        extend=Recipe(steps=4, rows=2, micro_rows=1, learning_rate=1e-2, warmup=1, schedule="cosine", decay_to=0.2,
                      clip=0.5, ema=0.5),
        base_stages=(), extend_stages=(Stage(0.5, long=0.0), Stage()), lengths=(64,),
        methods=("yarn", "longlora", "clex", "self_extend"),
        settings={"clex": {"max_factor": 4, "ode_steps": 8}, "self_extend": {"window": 16, "group": 4}},
        tests={"perplexity": test, "perplexity_32": At(test, (32,))}, few=("perplexity",),
        only={"longlora": ("perplexity_32",)}, variants={"pi_ds_bf16": Variant("pi", tables="ds_bf16")},
        drill_tasks=("needle",), tokens_a_call=1024, softmax=Blockwise(32, 32), remat="none", base_dir="base",
    )  # fmt: skip


def run(name, *flags):
    from absl import flags as absl_flags

    from longjax import cli
    from longjax.methods import METHODS

    given = ["--preset=made_by_0_1", "--run_dir=run", "--text_dir=text", "--save_every=2", *flags]
    cli.experiment(METHODS[name], absl_flags.FlagValues(), ["program", *given])


def evaluate():
    """Examines the exported model."""
    from experiments import evaluate as command
    from longjax import cli

    flags = [
        "--checkpoint=export", "--method=self_extend", "--method_config=window=16 group=4", "--tasks=perplexity",
        "--lengths=64", "--ppl_data=held_out", "--num_windows=2", "--data_dir=run/eval", "--out_dir=evaluations",
    ]  # fmt: skip
    cli.start(command.main, command.VALUES, ["program", *flags])


def names():
    """-> the words of 0.1 for methods, by how they are made."""
    from longjax.methods.base import Method, described

    from longjax.methods import METHODS, compose, ds_bf16, self_extend, with_lora, yarn
    from longjax.methods.pi import pi

    longrope = {"short_factor": "1,1.5", "long_factor": "2,3.5"}
    made = {name: [[{}, described(make())]] for name, make in METHODS.items() if name != "longrope"}
    others = {
        "longrope": [longrope], "yarn": [{"factor": 4.0, "truncate": False}, {"mscale": 1.0, "mscale_all_dim": 0.8}],
        "self_extend": [{"window": 512, "group": 16, "log_base": 2048.0}], "landmark": [
            {"block": 16, "select": "chunk_max", "chunk": None, "piece": 256}],
        "longlora": [{"shift": "s2_wrap"}, {"shift": "noshift", "rank": 4}], "dca": [{"mscale": True, "chunk": 512}],
        "clex": [{"act": "tanh", "log_scale": False}], "leaky_rerope": [{"log_n": True}],
    }  # fmt: skip
    for name, settings in others.items():
        made.setdefault(name, []).extend([given, described(METHODS[name](**given))] for given in settings)
    composed = {
        "untouched": Method(), "compose": compose(yarn(4.0), self_extend(512, 16)),
        "compose_clex": compose(METHODS["clex"](), METHODS["longlora"]()), "with_lora": with_lora(yarn(4.0), 4),
        "with_lora_clex": with_lora(METHODS["clex"](), 4, names=("q", "v")), "ds_bf16_pi": ds_bf16(pi(4.0)),
        "ds_bf16_yarn": ds_bf16(yarn(), 4096, 16), "ds_bf16_ntk": ds_bf16(METHODS["ntk_32k"]()),
        "ds_bf16_longlora": ds_bf16(METHODS["longlora"]()),
    }  # fmt: skip
    return {"methods": made, "composed": {name: described(method) for name, method in composed.items()}}


def main(out):
    from longjax.presets import PRESETS

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    os.chdir(out)
    write_text(out / "text")
    write_base(out / "base")
    PRESETS["made_by_0_1"] = preset()
    for name, flags in METHODS_AND_FLAGS.items():
        run(name, *flags, *["--export_dir=export"] * (name == "self_extend"))
    evaluate()
    for path in (out / "run" / "methods" / "yarn" / "checkpoints").glob("4"):  # as if it had been killed
        shutil.rmtree(path)
    shutil.rmtree(out / "run" / "methods" / "yarn" / "evals")
    for path in (out / "run" / "methods").glob("*/checkpoints/2"):
        if path.parts[-3] != "yarn":
            shutil.rmtree(path)
    said = {m: [json.loads(x)["loss"] for x in (out / "run/methods" / m / "metrics.jsonl").read_text().splitlines()]
            for m in ("yarn",)}  # fmt: skip
    (out / "losses.json").write_text(json.dumps(said) + "\n")
    for path in [out / "text", out / "base" / "tokenizer.model", out / "export" / "tokenizer.model", out / "run/eval",
                 out / "run/store", out / "run/tokenizer.model"]:  # fmt: skip
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with tarfile.open(out / "files.tar.xz", "w:xz") as archive:
        for name in ("base", "run", "export", "evaluations"):
            archive.add(out / name, name)
    (out / "methods.json").write_text(json.dumps(names(), indent=1) + "\n")


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    sys.path[:0] = [str(pathlib.Path.cwd()), str(pathlib.Path.cwd() / "tests")]
    main(pathlib.Path(sys.argv[1]).absolute())
