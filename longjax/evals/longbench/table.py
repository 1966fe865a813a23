"""The 21 tasks of LongBench (arXiv 2308.14508): their metrics, answer lengths, and where the study differs."""

from collections.abc import Callable
from typing import NamedTuple

from longjax.evals.metrics.classification import classification
from longjax.evals.metrics.code import code_sim
from longjax.evals.metrics.count_retrieval import count, retrieval, retrieval_zh
from longjax.evals.metrics.qa import qa_f1, qa_f1_zh
from longjax.evals.metrics.rouge import rouge_l, rouge_zh


class LongBenchTask(NamedTuple):
    """A task of LongBench.

    Attributes:
      metric: (prediction, reference) -> score in 0..1; classification also takes the classes.
      max_new_tokens: limit of the answer's tokens.
      has_input: the prompt has an {input}; else only a {context}.
      first_line: LongBench's scorer reads only the first line of the answer.
      first_line_lceg: the study's scorer reads only the first line of the answer.
      one_line: generation ends with the first line, which is not empty.
      paper: one of the study's 16 tasks (arXiv:2409.12181).
      even: also a task of LongBench-E, whose lengths are evenly distributed.

    """

    metric: Callable[..., float]
    max_new_tokens: int
    has_input: bool = True
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
    "gov_report": LongBenchTask(rouge_l, 512, has_input=False, even=True),
    "qmsum": LongBenchTask(rouge_l, 512),
    "multi_news": LongBenchTask(rouge_l, 512, has_input=False, even=True),
    "vcsum": LongBenchTask(rouge_zh, 512, has_input=False, paper=False),
    "trec": LongBenchTask(classification, 64, first_line=True, first_line_lceg=True, even=True),
    "triviaqa": LongBenchTask(qa_f1, 32, first_line=True, first_line_lceg=True, even=True),
    "samsum": LongBenchTask(rouge_l, 128, first_line=True, first_line_lceg=True, one_line=True, even=True),
    "lsht": LongBenchTask(classification, 64, first_line=True, first_line_lceg=True, paper=False),
    "passage_count": LongBenchTask(count, 32, has_input=False, first_line_lceg=True, even=True),
    "passage_retrieval_en": LongBenchTask(retrieval, 32, first_line_lceg=True, even=True),
    "passage_retrieval_zh": LongBenchTask(retrieval_zh, 32, paper=False),
    "lcc": LongBenchTask(code_sim, 64, has_input=False, even=True),
    "repobench-p": LongBenchTask(code_sim, 64, even=True),
}
EVEN = "_e"  # ends the name of a task of LongBench-E
