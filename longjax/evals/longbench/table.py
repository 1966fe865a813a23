"""The 21 tasks of LongBench (arXiv 2308.14508): what is asked, how it is scored, and where the study differs."""

from collections.abc import Callable
from typing import NamedTuple

from longjax.evals.metrics.classification import classification
from longjax.evals.metrics.code import code_sim
from longjax.evals.metrics.count_retrieval import count, retrieval, retrieval_zh
from longjax.evals.metrics.qa import qa_f1, qa_f1_zh
from longjax.evals.metrics.rouge import rouge_l, rouge_zh


class LongBenchTask(NamedTuple):
    """What a task is.

    Attributes:
      metric: (prediction, reference) -> share; classification wants the classes, too.
      new: at most so many tokens are said.
      asks: the prompt holds an {input}; else the context says it all.
      first_line, first_line_lceg: LongBench's scorer, or the study's, sees no more of what was said.
      one_line: the answer ends with its line, and is not empty.
      paper: is one of the study's 16 (arXiv 2409.12181).
      even: has a half in LongBench-E, whose lengths are even.

    """

    metric: Callable[..., float]
    max_new_tokens: int
    asks: bool = True
    first_line: bool = False
    first_line_lceg: bool = False
    one_line: bool = False
    paper: bool = True
    even: bool = False


TASKS = {
    "narrativeqa": LongBenchTask(qa_f1, 128, first_line_lceg=True),
    "qasper": LongBenchTask(qa_f1, 128, first_line_lceg=True, even=True),
    "multifieldqa_en": LongBenchTask(qa_f1, 64, first_line_lceg=True, even=True),
    "multifieldqa_zh": LongBenchTask(qa_f1_zh, 64, paper=False),
    "hotpotqa": LongBenchTask(qa_f1, 32, first_line_lceg=True, even=True),
    "2wikimqa": LongBenchTask(qa_f1, 32, first_line_lceg=True, even=True),
    "musique": LongBenchTask(qa_f1, 32, first_line_lceg=True),
    "dureader": LongBenchTask(rouge_zh, 128, paper=False),
    "gov_report": LongBenchTask(rouge_l, 512, asks=False, even=True),
    "qmsum": LongBenchTask(rouge_l, 512),
    "multi_news": LongBenchTask(rouge_l, 512, asks=False, even=True),
    "vcsum": LongBenchTask(rouge_zh, 512, asks=False, paper=False),
    "trec": LongBenchTask(classification, 64, first_line=True, first_line_lceg=True, even=True),
    "triviaqa": LongBenchTask(qa_f1, 32, first_line=True, first_line_lceg=True, even=True),
    "samsum": LongBenchTask(rouge_l, 128, first_line=True, first_line_lceg=True, one_line=True, even=True),
    "lsht": LongBenchTask(classification, 64, first_line=True, first_line_lceg=True, paper=False),
    "passage_count": LongBenchTask(count, 32, asks=False, first_line_lceg=True, even=True),
    "passage_retrieval_en": LongBenchTask(retrieval, 32, first_line_lceg=True, even=True),
    "passage_retrieval_zh": LongBenchTask(retrieval_zh, 32, paper=False),
    "lcc": LongBenchTask(code_sim, 64, asks=False, even=True),
    "repobench-p": LongBenchTask(code_sim, 64, even=True),
}
EVEN = "_e"  # ends the name of a task of LongBench-E
