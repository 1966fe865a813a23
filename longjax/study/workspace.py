"""The folder of a study: tokenizer, token store, task files, and a folder per method. Existing files are kept."""

import dataclasses
import pathlib
import shutil
from collections.abc import Iterable
from typing import Any

from longjax import data, files
from longjax.checkpoints import pretrained
from longjax.checkpoints.extension import from_all_it_reads
from longjax.data import corpus, tokenizer
from longjax.data.passkey_text import SENTENCES, PasskeyText
from longjax.data.recall_rows import RecallMixture, TaskExampleSource
from longjax.data.tokenizer_folder import FILES, vocabulary_files
from longjax.evals.context import EvalContext
from longjax.evals.requests import Task
from longjax.study import eval_data, task_examples
from longjax.study.config import DataStage, StudyConfig
from longjax.training.recipe import Recipe

MOST_PYTHON = 500_000_000  # characters that the installed Python packages may stand in for


@dataclasses.dataclass(frozen=True)
class Workspace:
    """A study in a folder.

    Attributes:
      folder: all files of the study are below it.
      preset: the study's configuration.
      text_dir: the user's own text; None: that of the installed Python packages.
      base_dir: a checkpoint of the base model; None: the base is pretrained here.
      adapter: PEFT adapters or LongLoRA's release to merge into it; None: there are none.
      plan_dir: rows that `longjax-prepare-data pack` planned; None: rows of this folder's text.

    """

    folder: pathlib.Path
    preset: StudyConfig
    text_dir: str | None = None
    base_dir: str | None = None
    adapter: str | None = None
    plan_dir: str | None = None

    @property
    def seed(self) -> int:
        """Seed of this repetition of the study."""
        return self.preset.extend.seed

    @property
    def seed_folder(self) -> pathlib.Path:
        """Folder of the base and the methods: one per seed if the study has several."""
        return self.folder / f"seed_{self.seed}" if self.preset.seeds > 1 else self.folder

    def method_folder(self, name: str) -> pathlib.Path:
        """Returns the folder of an arm."""
        return self.seed_folder / "methods" / name

    def with_seed(self, seed: int) -> "Workspace":
        """Returns the same study with another seed."""
        base, extend = self.preset.base, dataclasses.replace(self.preset.extend, seed=seed)
        base = base and dataclasses.replace(base, seed=seed)
        return dataclasses.replace(self, preset=dataclasses.replace(self.preset, base=base, extend=extend))

    def base_checkpoint(self) -> pretrained.Checkpoint | None:
        """Opens the checkpoint of the base, without reading its weights; None if the base is pretrained here."""
        if not self.base_dir:
            return None
        checkpoint = pretrained.open_checkpoint(self.base_dir, self.adapter)
        if not self.preset.further:
            return checkpoint
        cfg, method = from_all_it_reads(checkpoint.cfg, checkpoint.method, checkpoint.config)
        return dataclasses.replace(checkpoint, cfg=cfg, method=method)

    def prepare(self) -> None:
        """Writes the tokenizer, the token store and the task examples, unless they exist.

        Raises ValueError for a user's mistake with the text, the base or the plan.
        """
        files.check_writable(self.folder)
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
        """Collects text and writes the token store, with the base's tokenizer or one that is trained on the text."""
        if not self.text_dir and self.preset.characters > MOST_PYTHON:
            raise ValueError("this preset needs text of yours: name it with --text_dir, or packed rows with --plan_dir")
        documents = corpus.collect_documents(self.text_dir, self.preset.characters)
        if self.base_dir:
            self.copy_tokenizer()
        else:
            train = [d for d in documents if d.split == "train"]
            tokenizer.train_tokenizer(train, self.folder / "tokenizer.model", self.preset.model.vocab, SENTENCES)
        data.write_store(self.folder / "store", documents, self.tokenizer())

    def write_task_examples(self, name: str, longest: int, tokens: int) -> None:
        """Writes task examples for a training, unless they exist; all seeds share them.

        There are about `tokens` tokens of examples, from the length `longest` of the rows down to a sixteenth of it.
        """
        if (self.folder / "drills" / name / "manifest.json").exists():
            return
        lengths = tuple(longest >> n for n in range(5))
        text = "\n".join(eval_data.texts_of_split(self.store(), "train", self.tokenizer()))
        ctx = task_examples.prepare_sources(self.folder / "drills" / "data", text, self.tokenizer(), lengths, seed=0)
        task_examples.write_examples(self.folder / "drills" / name, ctx, tokens, self.preset.task_example_tasks)

    def copy_tokenizer(self) -> None:
        """Copies the base's tokenizer into the folder. Raises ValueError if it has none."""
        if not self.base_dir:
            raise ValueError("--plan_dir holds ids of a tokenizer: name the base that has it with --base_dir")
        base = pathlib.Path(self.base_dir)
        vocabulary_files(base)  # raises if there is none
        for name in FILES:
            if (base / name).is_file():
                shutil.copyfile(base / name, self.folder / name)

    def tokenizer(self) -> tokenizer.Tokenizer:
        """Opens the study's tokenizer."""
        return tokenizer.Tokenizer(self.folder)

    def store(self) -> data.TokenStore:
        """Opens the tokens for training and tests."""
        if self.plan_dir:
            return self.plan().store
        return data.open_store(self.folder / "store", self.tokenizer(), verify=True)

    def plan(self) -> data.AnyPlan:
        """Opens the plan of --plan_dir."""
        assert self.plan_dir
        return data.open_plan(self.plan_dir, self.seed, self.tokenizer())

    def tasks(self, names: Iterable[str], lengths: tuple[int, ...]) -> list[Task]:
        """Returns the tasks of tests by name, the same for all seeds. Files that they need are written before."""
        preset, folder = self.preset, self.folder / "eval"
        eval_data.write_eval_data(folder, self.store(), "test", self.tokenizer(), seed=0)
        ctx = EvalContext(folder, self.tokenizer(), lengths, trained_len=preset.model.trained_len)
        return [task for name in names for task in preset.tests[name].tasks(ctx)]

    def base_rows(self) -> data.StagedSource:
        """Returns the rows of the base's pretraining."""
        assert self.preset.base
        return self.rows(self.preset.model.trained_len, self.preset.base, self.preset.base_stages, "base")

    def extend_rows(self, recipe: Recipe | None = None, length: int | None = None) -> data.DataSource:
        """Returns the rows of extensions, which are the same for every method.

        Args:
          recipe: of the training; None: the preset's.
          length: tokens of a row; None: the preset's extended length.

        Raises:
          ValueError: the rows of --plan_dir have another length.

        """
        if not self.plan_dir:
            stages = self.preset.extend_stages
            return self.rows(length or self.preset.extended, recipe or self.preset.extend, stages, "extension")
        plan = self.plan()
        if plan.length != (length or self.preset.extended):
            raise ValueError(
                f"--plan_dir={self.plan_dir} has rows of {plan.length} tokens, not {length or self.preset.extended}"
            )
        return plan

    def rows(self, length: int, recipe: Recipe, stages: tuple[DataStage, ...], name: str) -> data.StagedSource:
        """Returns rows of the study's own text, `length` tokens each, stage by stage, with task examples `name`."""
        store, passkey_text = self.store(), PasskeyText.from_tokenizer(self.tokenizer())
        plan = data.pack(store, data.select_all(store), data.Concat(), length, seed=self.seed)
        examples = None
        if any(stage.task_examples for stage in stages):
            examples = task_examples.TaskExamples(self.folder / "drills" / name, self.tokenizer().sha256)
        ends = [round(stage.until * recipe.steps) * recipe.batch_size for stage in stages]
        mixtures = [self.mixture(plan, passkey_text, stage, examples) for stage in stages]
        return data.StagedSource(tuple(zip(ends, mixtures, strict=True)))

    def mixture(
        self, plan: data.Plan, passkey_text: PasskeyText, stage: DataStage, examples: TaskExampleSource | None
    ) -> RecallMixture:
        """Returns the rows of one stage."""
        return RecallMixture(
            plan, passkey_text, stage.passkey, stage.repeat, stage.long, stage.filler, segment=stage.segment,
            seed=self.seed, task_examples=examples if stage.task_examples else None,
            task_example_share=stage.task_examples,
        )  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """Returns all that determines the study's results, for the report and for resuming."""
        hashes = {"tokenizer": self.tokenizer().sha256, "tokens": self.store().sha256}
        if self.preset.base:
            hashes["base rows"] = self.base_rows().sha256
        preset = dataclasses.asdict(self.preset)
        del preset["attention"]  # a study may continue with another back end
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


def open_workspace(
    run_dir: str | pathlib.Path, preset: StudyConfig, text_dir: str | None = None, base_dir: str | None = None,
    adapter: str | None = None, plan_dir: str | None = None,
) -> Workspace:  # fmt: skip
    """Returns the workspace in `run_dir`; with `base_dir`, the preset's model is replaced by that checkpoint's.

    The arguments are the fields of `Workspace`. Raises ValueError if the checkpoint cannot be opened.
    """
    return with_base_model(Workspace(pathlib.Path(run_dir), preset, text_dir, base_dir, adapter, plan_dir))


def with_base_model(workspace: Workspace) -> Workspace:
    """Returns the workspace with the model of its checkpoint, if it has one. Raises ValueError if it is damaged."""
    if not (checkpoint := workspace.base_checkpoint()):
        return workspace
    preset = workspace.preset
    model = dataclasses.replace(checkpoint.cfg, dtype=preset.model.dtype)
    return dataclasses.replace(workspace, preset=dataclasses.replace(preset, model=model, base=None))
