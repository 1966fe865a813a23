"""Scores of answers: the benchmarks' own numbers, and the laws behind them."""

import itertools
import json
import random
import shutil
import sys
from pathlib import Path

import pytest

from golden_checks import eval_metrics
from longjax.evals.metrics import chinese, lcs, needle, rouge_stemmed, ruler
from longjax.evals.metrics.classification import classification
from longjax.evals.metrics.code import code_sim
from longjax.evals.metrics.count_retrieval import count, retrieval
from longjax.evals.metrics.porter import stem
from longjax.evals.metrics.qa import CHINESE, f1_zh, qa_f1, qa_f1_zh
from longjax.evals.metrics.rouge import rouge_l, rouge_zh
from tools import check_golden

HERE = Path(__file__).parent / "golden" / "eval" / "metrics"
SHARED = Path(__file__).parents[2] / "shared" / "golden" / "eval" / "metrics"
SETS = [folder for folder in (HERE, SHARED) if folder.exists()]


def faults(folder):
    return [result for result in eval_metrics.results(folder) if not check_golden.passed(result)]


@pytest.mark.parametrize("folder", SETS, ids=lambda folder: folder.parts[-4])
def test_the_benchmarks_numbers(folder):
    assert faults(folder) == []


def test_there_is_a_file_of_every_kind_and_they_are_small():
    files = list(HERE.iterdir())
    assert {path.stem for path in files} == eval_metrics.FILES.keys()
    assert sum(path.stat().st_size for path in files) < 250_000


CHANGES = {
    "longbench_classification": ("expected", 0.7), "longbench_qa_f1": ("normalized_reference", "x"),
    "longbench_rouge_zh": ("expected", 0.7), "porter_stem": ("stem", "x"), "ruler_single": ("postprocessed", "x"),
    "longbench_dataset_score": ("per_example_lceg", [0.7] * 12), "ruler_batch": ("string_match_part", 0.7),
    "niah_score": ("rougeL_f", 0.7), "manyshot_trec_score": ("expected", 0.7), "class_lists": ("classes", ["x"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_another_number_is_noticed(tmp_path, name):
    for path in (HERE / "class_lists.jsonl", HERE / f"{name}.jsonl"):
        shutil.copy(path, tmp_path / path.name)
    path, (field, other) = tmp_path / f"{name}.jsonl", CHANGES[name]
    rows = [json.loads(line) for line in eval_metrics.lines(path)]
    rows[0][field] = other
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert any(result.case == str(rows[0]["id"]) for result in faults(tmp_path))


def test_what_cannot_be_read_is_a_fault_and_the_rest_is_checked(tmp_path):
    shutil.copy(HERE / "class_lists.jsonl", tmp_path)
    (tmp_path / "unknown.jsonl").write_text("{}\n")
    lost = '{"id": 7, "prediction": "1"}\n{torn\n{"id": 9, "prediction": "1", "reference": "2", "expected": 0.0}\n'
    (tmp_path / "longbench_count.jsonl").write_text(lost)
    assert [(x.family, x.case) for x in faults(tmp_path)] == [
        ("longbench_count", "line 1"), ("longbench_count", "line 2"), ("unknown", "line 1"),
    ]  # fmt: skip
    assert sum(x.family == "longbench_count" for x in eval_metrics.results(tmp_path)) == 3


# Longest common subsequences


def by_table(x, y):
    """-> length, and the words on the path, as the definition has them."""
    table = {(i, j): 0 for i in range(len(x) + 1) for j in range(len(y) + 1)}
    for i, j in itertools.product(range(1, len(x) + 1), range(1, len(y) + 1)):
        same = x[i - 1] == y[j - 1]
        table[i, j] = table[i - 1, j - 1] + 1 if same else max(table[i - 1, j], table[i, j - 1])
    i, j, found = len(x), len(y), set()
    while i and j:
        if x[i - 1] == y[j - 1]:
            found, i, j = found | {x[i - 1]}, i - 1, j - 1
        elif table[i - 1, j] > table[i, j - 1]:
            i -= 1
        else:
            j -= 1
    return table[len(x), len(y)], found


@pytest.mark.parametrize("seed", range(60))
def test_rows_of_bits_are_the_table(seed):
    rng = random.Random(seed)
    letters = "abcdefghij"[: rng.choice([1, 2, 3, 10])]
    x, y = ([rng.choice(letters) for _ in range(rng.randint(0, 25))] for _ in range(2))
    assert (lcs.length(x, y), lcs.words(x, y)) == by_table(x, y)


# ROUGE


def test_rouge_counts_words_once_and_sees_sentences():
    assert rouge_l("b a", "a b") == pytest.approx(0.5)  # one of two is in order
    assert rouge_l("a. b", "b. a") == pytest.approx(1)  # each has its sentence
    assert rouge_l("a a a a", "a") == pytest.approx(1)
    assert rouge_l("A", "a") == 0
    assert [rouge_l(*sides) for sides in (("", "a"), ("a", ""), ("...", "a"))] == [0, 0, 0]


def test_rouge_of_one_endless_sentence():
    """The package gives up at about a thousand steps of its recursion; f of a text with itself has its 1e-8 only."""
    words = [f"w{i}" for i in range(3000)]
    assert rouge_l(" ".join(words), " ".join(words)) == 2 / (2 + 1e-8)
    half = rouge_l(" ".join(words[::2]), " ".join(words))
    assert half == pytest.approx(2 / 3)


def test_rouge_of_stems():
    assert rouge_stemmed.rouge_1("Eating sandwiches!", "eat a sandwich") == pytest.approx(2 * 2 / 5)
    assert (rouge_stemmed.rouge_1("b a", "a b"), rouge_stemmed.rouge_l("b a", "a b")) == (1, 0.5)
    assert rouge_stemmed.rouge_1("was", "wa") == 0  # three letters keep their s
    assert rouge_stemmed.rouge_1("", "a") == rouge_stemmed.rouge_l("\u4e2d", "a") == 0


def test_stems():
    """As nltk 3.8.1 has them; it departs from Porter's paper in dies, using, possibly, vying, hopefully, geology."""
    said = "caresses ponies dies hopping hoping falling relational radically apologies skies news proceed y at"
    want = "caress poni die hop hope fall relat radic apolog sky news proceed y at"
    said += " using owed possibly vying hopefully geology succeed adoption failing filing hissing agreed feed"
    want += " use owe possibl vy hope geolog succeed adopt fail file hiss agre feed"
    assert [stem(word) for word in said.split()] == want.split()


# Words, numbers, classes, code


def test_f1_forgets_case_punctuation_and_articles():
    assert qa_f1("The Cat, sat!", "cat sat") == 1
    assert qa_f1("a an the", "the") == 0  # nothing is left to agree on
    assert qa_f1("x x y", "x y y") == pytest.approx(2 / 3)
    assert qa_f1("x y", "x z w") == qa_f1("x z w", "x y")


def test_chinese_words_by_whoever_cuts_them(monkeypatch):
    monkeypatch.setattr(chinese, "_cutter", lambda: list)  # each letter is a word
    assert qa_f1_zh("\u5317\u4eac\u3002", "\u5317\u4eac") == 1
    assert rouge_zh("\u5317\u4eac", "\u5317\u4e0a") == pytest.approx(0.5)
    assert f1_zh(["A", "\uff0c", " "], ["a"]) == 1


def test_the_list_of_chinese_punctuation_has_the_benchmarks_gaps():
    assert {"\u300b", "\u300e", "\uff0c", ".", "\u3002"} <= CHINESE
    assert not CHINESE & {"\u300a", "\u3008", "\uff0e", "\u00b7"}


def test_without_jieba_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    chinese._cutter.cache_clear()
    with pytest.raises(ValueError, match=r"^the Chinese tasks of LongBench are scored with jieba: pip install [^\n]*$"):
        rouge_zh("x", "x")


def test_numbers_are_compared_digit_by_digit():
    assert count("7 of 07 or 7", "7") == pytest.approx(2 / 3)
    assert count("\u0667 7", "7") == 0.5  # a digit of another script is a number, too
    assert count("none", "7") == 0
    assert retrieval("Paragraph 3, or 4", "Paragraph 4") == 0.5
    with pytest.raises(ValueError, match="the answer '4' names no paragraph"):
        retrieval("4", "4")


def test_names_within_the_right_name_are_taken_out_but_every_second_stays():
    """The benchmark takes names out of the list that it walks along."""
    assert classification("Person", "Person", ["Person", "Place"]) == 1
    assert classification("Person", "Person", ["Per", "Person"]) == 1
    assert classification("Person", "Person", ["Per", "son", "Person"]) == 0.5
    assert classification("Person or Place", "Person", ["Person", "Place"]) == 0.5
    assert classification("person", "Person", ["Person"]) == 0


def test_code_is_one_line_in_whole_percent():
    assert code_sim("\n# no\n// no\n`no`\nx = 1\ny = 2", "x = 1") == 1
    assert code_sim("a1234567", "abcdefgh") == 0.12  # 12.5: to the even one
    assert code_sim("# no", "x") == 0
    assert code_sim("# no", "") == code_sim("", "") == 1


def test_ruler_wants_strings_and_forgives_all_else():
    assert ruler.string_match_all("ABC and d", ["abc", "x"]) == 0.5
    assert ruler.string_match_part("ABC", ["x", "b"]) == 1
    assert ruler.string_match_part("", ["x"]) == 0
    assert ruler.cleaned(" \x00a\tb\x1f ") == "a\nb"


def test_the_needle_is_found_whole_or_in_words():
    said = "Eat a sandwich and sit in Dolores Park, on a sunny day"
    assert needle.recall(said, ["eat a sandwich", "sunny day"]) == 1
    assert needle.recall("it is 12345", ["1234", "12345"]) == 0.5  # whole words
    assert needle.word_overlap(said) == pytest.approx(9 / 12)  # neither "park," nor "day" without its full stop
    assert needle.word_overlap(needle.STUDY_NEEDLE) == pytest.approx(11 / 12)
    assert rouge_stemmed.rouge_1(said, needle.STUDY_NEEDLE) == pytest.approx(24 / 33)
