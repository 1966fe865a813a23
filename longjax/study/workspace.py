"""A study's folder: tokenizer, tokens, one subfolder a method. What is there is not made again."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable, Iterable
from typing import Any

from longjax import data, files
from longjax.checkpoints import pretrained
from longjax.data import corpus, tokenizer
from longjax.data.passkey_text import SENTENCES, PasskeyText
from longjax.data.recall_rows import RecallMixture
from longjax.evals.context import EvalContext
from longjax.evals.requests import Task
from longjax.study import eval_data, task_examples
from longjax.study.config import DataStage, StudyConfig
from longjax.training.train_step import Recipe

TOKENIZERS = ("tokenizer.model", "tokenizer.json")


@dataclasses.dataclass(frozen=True)
class Workspace:
    """The folder and what it is for.

    Attributes:
      folder: everything of this study lies here.
      preset: the sizes.
      text_dir: the user's own text; None: the installed Python packages.
      base_dir: a checkpoint with the base model; None: it is pretrained here.
      adapter: PEFT adapters or LongLoRA's release on top of it.
      plan_dir: rows that `tools.prepare_data pack` has planned; None: those of this folder's text.

    """

    folder: pathlib.Path
    preset: StudyConfig
    text_dir: str | None = None
    base_dir: str | None = None
    adapter: str | None = None
    plan_dir: str | None = None

    @property
    def seed(self) -> int:
        return self.preset.extend.seed

    @property
    def seed_folder(self) -> pathlib.Path:
        """-> the folder of this seed: of several, each has its own base and trainings."""
        return self.folder / f"seed_{self.seed}" if self.preset.seeds > 1 else self.folder

    def method_folder(self, name: str) -> pathlib.Path:
        return self.seed_folder / "methods" / name

    def with_seed(self, seed: int) -> "Workspace":
        """-> the same study with another seed."""
        base, extend = self.preset.base, dataclasses.replace(self.preset.extend, seed=seed)
        base = base and dataclasses.replace(base, seed=seed)
        return dataclasses.replace(self, preset=dataclasses.replace(self.preset, base=base, extend=extend))

    def base_checkpoint(self) -> pretrained.Checkpoint | None:
        """-> the base that is not pretrained here, unread."""
        return pretrained.open_checkpoint(self.base_dir, self.adapter) if self.base_dir else None

    def prepare(self) -> None:
        """Text to tokens, once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.plan_dir:
            self.copy_tokenizer()
            data.check_vocab(self.plan().store, self.preset.model.vocab, f"--plan_dir={self.plan_dir}")
            return
        if not (self.folder / "store" / "manifest.json").exists():
            self.tokenize()
        base, extension = self.preset.task_examples
        if base and not self.base_dir:
            self.write_task_examples("base", self.preset.model.trained_len, base)
        if extension:
            self.write_task_examples("extension", self.preset.extended, extension)

    def tokenize(self) -> None:
        documents = corpus.collect(self.text_dir, self.preset.characters)
        if self.base_dir:
            self.copy_tokenizer()
        else:
            train = [d for d in documents if d.split == "train"]
            tokenizer.train(train, self.folder / "tokenizer.model", self.preset.model.vocab, SENTENCES)
        data.write_store(self.folder / "store", documents, self.tokenizer())

    def write_task_examples(self, name: str, longest: int, tokens: int) -> None:
        """Questions with their answers to train on, from a sixteenth of the rows' length on. They are for all seeds."""
        if (self.folder / "drills" / name / "manifest.json").exists():
            return
        lengths = tuple(longest >> n for n in range(5))
        training = "\n".join(eval_data.held_out_texts(self.store(), "train", self.tokenizer()))
        material = task_examples.prepare_sources(
            self.folder / "drills" / "data", training, self.tokenizer(), lengths, seed=0
        )
        task_examples.write_examples(self.folder / "drills" / name, material, tokens, self.preset.task_example_tasks)

    def copy_tokenizer(self) -> None:
        """The base's, of either kind."""
        if not self.base_dir:
            raise ValueError("--plan_dir holds a tokenizer's ids: name the base they are for with --base_dir")
        found = [pathlib.Path(self.base_dir) / name for name in TOKENIZERS]
        found = [path for path in found if path.is_file()]
        if not found:
            raise ValueError(f"--base_dir={self.base_dir} has no {' or '.join(TOKENIZERS)}")
        shutil.copyfile(found[0], self.folder / found[0].name)

    def tokenizer(self) -> tokenizer.Tokenizer:
        return tokenizer.Tokenizer(
            next((p for n in TOKENIZERS if (p := self.folder / n).exists()), self.folder / "tokenizer.model")
        )

    def store(self) -> data.TokenStore:
        """The tokens that are trained and evaluated on."""
        return (
            self.plan().store
            if self.plan_dir
            else data.open_store(self.folder / "store", self.tokenizer(), verify=True)
        )

    def plan(self) -> data.AnyPlan:
        """The one of --plan_dir."""
        assert self.plan_dir
        return data.open_plan(self.plan_dir, self.seed, self.tokenizer())

    def tasks(self, names: Iterable[str], lengths: tuple[int, ...]) -> list[Task]:
        """-> the questions of these tests. They are the same for all seeds."""
        preset, folder = self.preset, self.folder / "eval"
        eval_data.write_eval_data(folder, self.store(), "test", self.tokenizer(), seed=0)
        material = EvalContext(folder, self.tokenizer(), lengths, trained_len=preset.model.trained_len)
        return [task for name in names for task in preset.tests[name].tasks(material)]

    def base_rows(self) -> data.StagedSource:
        assert self.preset.base
        return self.rows(self.preset.model.trained_len, self.preset.base, self.preset.base_stages, "base")

    def extend_rows(self, recipe: Recipe | None = None) -> data.DataSource:
        """The same for every method. `recipe`: of its training, if it is not the preset's."""
        if not self.plan_dir:
            stages = self.preset.extend_stages
            return self.rows(self.preset.extended, recipe or self.preset.extend, stages, "extension")
        plan = self.plan()
        if plan.length != self.preset.extended:
            raise ValueError(
                f"--plan_dir={self.plan_dir} has rows of {plan.length} tokens, not --length={self.preset.extended}"
            )
        return plan

    def rows(self, length: int, recipe: Recipe, stages: tuple[DataStage, ...], name: str) -> data.StagedSource:
        store, phrases = self.store(), PasskeyText.of(self.tokenizer())
        plan = data.pack(store, data.select_all(store), data.Concat(), length, seed=self.seed)
        drilled = any(stage.task_examples for stage in stages)
        pool = task_examples.TaskExamples(self.folder / "drills" / name, self.tokenizer().sha256) if drilled else None
        ends = (round(stage.until * recipe.steps) * recipe.batch_size for stage in stages)
        return data.StagedSource(
            tuple((end, self.mixture(plan, phrases, stage, pool)) for end, stage in zip(ends, stages, strict=True))
        )

    def mixture(
        self, plan: data.Plan, phrases: PasskeyText, stage: DataStage, pool: task_examples.TaskExamples | None
    ) -> RecallMixture:
        return RecallMixture(
            plan, phrases, stage.passkey, stage.repeat, stage.long, stage.filler, segment=stage.segment,
            seed=self.seed, task_examples=pool if stage.task_examples else None, task_example_share=stage.task_examples,
        )  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """-> what the study is, for the report and for resuming."""
        hashes = {"tokenizer": self.tokenizer().sha256, "tokens": self.store().sha256}
        if self.preset.base:
            hashes["base rows"] = self.base_rows().sha256
        preset = dataclasses.asdict(self.preset)
        del preset["attention"]  # like `RunConfig`, it does not change the result
        return {
            "trained_len": self.preset.model.trained_len,
            "extended_len": self.preset.extended,
            "seed": self.seed,
            "text_dir": self.text_dir,
            "base_dir": self.base_dir,
            "adapter": self.adapter,
            "plan_dir": self.plan_dir,
            "preset": preset,
            "sha256": hashes | {"extension rows": self.extend_rows().sha256},
        }

    def write_or_check_settings(
        self, path: pathlib.Path, settings: dict[str, Any], older: Callable[[dict[str, Any]], dict[str, Any]] = dict
    ) -> None:
        """Writes the settings, or compares them with those of the run that is resumed.

        `older` puts what an older release has written into today's words.

        Raises ValueError if they differ: numbers of two studies never mix.
        """
        said = json.dumps(settings, indent=1, sort_keys=True) + "\n"
        if not path.exists():
            files.write_atomically(path, said.encode())
        elif (old := older(json.loads(path.read_text()))) != (new := json.loads(said)):
            differ = [key for key in new if old.get(key) != new[key]] or [*old]
            raise ValueError(
                f"--run_dir={self.folder}: {path.name} was written with other settings ({', '.join(differ)}); "
                "choose another folder, or delete this one"
            )


def open_workspace(
    run_dir: str, preset: StudyConfig, text_dir: str | None = None, base_dir: str | None = None,
    adapter: str | None = None, plan_dir: str | None = None,
) -> Workspace:  # fmt: skip
    """-> the workspace; with `base_dir`, of that model."""
    space = Workspace(pathlib.Path(run_dir), preset, text_dir, base_dir, adapter, plan_dir)
    if not (given := space.base_checkpoint()):
        return space
    model = dataclasses.replace(given.cfg, dtype=preset.model.dtype)
    return dataclasses.replace(space, preset=dataclasses.replace(preset, model=model, base=None))
