"""A study's folder: tokenizer, tokens, one subfolder a method. What is there is not made again."""

import dataclasses
import json
import os
import pathlib
import shutil
from typing import Any

from longjax import data, pretrained, text, tokenizer
from longjax.presets import Preset, Stage
from longjax.recall import SENTENCES, Mixture, Phrases
from longjax.train import Recipe


@dataclasses.dataclass(frozen=True)
class Workspace:
    """The folder and what it is for.

    Attributes:
      folder: everything of this study lies here.
      preset: the sizes.
      text_dir: the user's own text; None: the installed Python packages.
      base_dir: a Hugging Face directory with the base model; None: it is pretrained here.
      seed: of data order and initial weights.

    """

    folder: pathlib.Path
    preset: Preset
    text_dir: str | None = None
    base_dir: str | None = None
    seed: int = 0

    def method_folder(self, name: str) -> pathlib.Path:
        return self.folder / "methods" / name

    def prepare(self) -> None:
        """Text to tokens, once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "store" / "manifest.json").exists():
            return
        documents, path = text.collect(self.text_dir, self.preset.characters), self.folder / "tokenizer.model"
        if self.base_dir:
            shutil.copyfile(pathlib.Path(self.base_dir) / "tokenizer.model", path)
        else:
            train = [d for d in documents if d.split == "train"]
            tokenizer.train(train, path, self.preset.model.vocab, SENTENCES)
        data.write_store(self.folder / "store", documents, self.tokenizer())

    def tokenizer(self) -> tokenizer.Tokenizer:
        return tokenizer.Tokenizer(self.folder / "tokenizer.model")

    def store(self) -> data.Store:
        return data.open_store(self.folder / "store", self.tokenizer(), verify=True)

    def base_rows(self) -> data.Stages:
        assert self.preset.base
        return self.rows(self.preset.model.trained_len, self.preset.base, self.preset.base_stages)

    def extend_rows(self) -> data.Stages:
        """The same for every method."""
        return self.rows(self.preset.extended, self.preset.extend, self.preset.extend_stages)

    def rows(self, length: int, recipe: Recipe, stages: tuple[Stage, ...]) -> data.Stages:
        store, phrases = self.store(), Phrases.of(self.tokenizer())
        plan = data.pack(store, data.whole(store), data.Concat(), length, seed=self.seed)
        ends = (round(stage.until * recipe.steps) * recipe.rows for stage in stages)
        return data.Stages(
            tuple((end, self.mixture(plan, phrases, stage)) for end, stage in zip(ends, stages, strict=True))
        )

    def mixture(self, plan: data.Plan, phrases: Phrases, stage: Stage) -> Mixture:
        return Mixture(
            plan, phrases, stage.passkey, stage.repeat, stage.long, stage.filler, segment=stage.segment, seed=self.seed
        )

    def settings(self) -> dict[str, Any]:
        """-> what the study is, for the report and for resuming."""
        hashes = {"tokenizer": self.tokenizer().sha256, "tokens": self.store().sha256}
        if self.preset.base:
            hashes["base rows"] = self.base_rows().sha256
        return {
            "trained_len": self.preset.model.trained_len,
            "extended_len": self.preset.extended,
            "seed": self.seed,
            "text_dir": self.text_dir,
            "base_dir": self.base_dir,
            "preset": dataclasses.asdict(self.preset) | {"softmax": repr(self.preset.softmax)},
            "sha256": hashes | {"extension rows": self.extend_rows().sha256},
        }

    def seal(self, path: pathlib.Path, settings: dict[str, Any]) -> None:
        """Writes the settings, or compares them with those of the run that is resumed.

        Raises ValueError if they differ: numbers of two studies never mix.
        """
        said = json.dumps(settings, indent=1, sort_keys=True) + "\n"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, said)
        elif (old := json.loads(path.read_text())) != (new := json.loads(said)):
            differ = [key for key in new if old.get(key) != new[key]] or [*old]
            raise ValueError(
                f"--run_dir={self.folder}: {path.name} was written with other settings ({', '.join(differ)}); "
                "choose another folder, or delete this one"
            )


def open_workspace(run_dir: str, preset: Preset, text_dir: str | None, base_dir: str | None, seed: int) -> Workspace:
    """-> the workspace; with `base_dir`, of that model."""
    if base_dir:
        model = pretrained.load_config(pathlib.Path(base_dir), preset.model.dtype)
        preset = dataclasses.replace(preset, model=model, base=None)
    return Workspace(pathlib.Path(run_dir), preset, text_dir, base_dir, seed)


def write_atomically(path: pathlib.Path, content: str) -> None:
    """The file is there in full or not at all."""
    new = path.with_name(path.name + ".new")
    with new.open("w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
