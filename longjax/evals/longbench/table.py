"""The 21 tasks of LongBench (arXiv 2308.14508): what is asked, how it is scored, and where the study differs."""

from collections.abc import Callable
from typing import NamedTuple

from longjax.evals.metrics.classification import classification
from longjax.evals.metrics.code import code_sim
from longjax.evals.metrics.count_retrieval import count, retrieval, retrieval_zh
from longjax.evals.metrics.qa import qa_f1, qa_f1_zh
from longjax.evals.metrics.rouge import rouge_l, rouge_zh


class Kind(NamedTuple):
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
    new: int
    asks: bool = True
    first_line: bool = False
    first_line_lceg: bool = False
    one_line: bool = False
    paper: bool = True
    even: bool = False


TASKS = {
    "narrativeqa": Kind(qa_f1, 128, first_line_lceg=True),
    "qasper": Kind(qa_f1, 128, first_line_lceg=True, even=True),
    "multifieldqa_en": Kind(qa_f1, 64, first_line_lceg=True, even=True),
    "multifieldqa_zh": Kind(qa_f1_zh, 64, paper=False),
    "hotpotqa": Kind(qa_f1, 32, first_line_lceg=True, even=True),
    "2wikimqa": Kind(qa_f1, 32, first_line_lceg=True, even=True),
    "musique": Kind(qa_f1, 32, first_line_lceg=True),
    "dureader": Kind(rouge_zh, 128, paper=False),
    "gov_report": Kind(rouge_l, 512, asks=False, even=True),
    "qmsum": Kind(rouge_l, 512),
    "multi_news": Kind(rouge_l, 512, asks=False, even=True),
    "vcsum": Kind(rouge_zh, 512, asks=False, paper=False),
    "trec": Kind(classification, 64, first_line=True, first_line_lceg=True, even=True),
    "triviaqa": Kind(qa_f1, 32, first_line=True, first_line_lceg=True, even=True),
    "samsum": Kind(rouge_l, 128, first_line=True, first_line_lceg=True, one_line=True, even=True),
    "lsht": Kind(classification, 64, first_line=True, first_line_lceg=True, paper=False),
    "passage_count": Kind(count, 32, asks=False, first_line_lceg=True, even=True),
    "passage_retrieval_en": Kind(retrieval, 32, first_line_lceg=True, even=True),
    "passage_retrieval_zh": Kind(retrieval_zh, 32, paper=False),
    "lcc": Kind(code_sim, 64, asks=False, even=True),
    "repobench-p": Kind(code_sim, 64, even=True),
}
EVEN = "_e"  # ends the name of a task of LongBench-E
