"""Laws of RULER's tasks: answers are where they should be, and samples are as long as they may be."""

import itertools
import random
import re
import time

import numpy as np
import pytest

import small_ruler
from longjax.evals.ruler import TooShortError
from longjax.evals.ruler.fwe import FrequentWords
from longjax.evals.ruler.haystacks import DEPTHS, NOISE, Essays, InEssays, join_all, join_nonempty
from longjax.evals.ruler.inputs import RulerInputs
from longjax.evals.ruler.length_fitting import Linear, Room, largest, shrunk
from longjax.evals.ruler.prompts import OWN
from longjax.evals.ruler.sample import RulerSample, SampleSeed
from longjax.evals.ruler.tasks import Ruler, sample_rows
from longjax.evals.ruler.versions import BASES, NIAH, VERSIONS, make_task

TOKENIZERS = small_ruler.tokenizers()
TASKS = list(BASES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_ruler.write_data(tmp_path_factory.mktemp("ruler"))


@pytest.fixture(scope="module")
def kits(folder):
    return {name: RulerInputs(small_ruler.make_context(folder, tokenizer)) for name, tokenizer in TOKENIZERS.items()}


def made_rows(kits, tokenizer, version, task, length, count=2, seed=0):
    made = make_task(VERSIONS[version], task, length, seed, kits[tokenizer])
    return made, list(sample_rows(made, task, count, seed))


def text(row):
    return row["input"] + row["answer_prefix"]


def holds(task, row):
    """Whether the answers are in the text exactly as often as they should be, and nothing else could be one."""
    said, outputs = text(row), row["outputs"]
    if task in NIAH:
        shape, about = NIAH[task], row["about"]
        lines = [f"One of the special magic {shape.value} for {key} is: " for key in about["keys"]]
        found = [x for line in lines for x in re.findall(re.escape(line) + "([0-9a-f-]+)\\.", said)]
        return sorted(found) == sorted(outputs) and len(outputs) == shape.values * shape.queries
    if task == "vt":
        chain = dict(re.findall(r"VAR ([A-Z]{5}) = (?:VAR )?(\w+)", said))
        links = [chain[b] == a for a, b in itertools.pairwise(outputs)]
        return len(chain) == 5 and all(links) and row["about"]["keys"] == [chain[outputs[0]]]
    if task == "cwe":
        list_words = re.findall(r"\d+\. (\S+)", row["input"].rpartition("\n1. ")[2])
        counts = sorted({x: list_words.count(x) for x in set(list_words)}.items(), key=lambda x: -x[1])
        return {x for x, _ in counts[:10]} <= set(outputs) and counts[9][1] > counts[11][1]
    if task == "fwe":
        coded = re.findall(r"\b[a-z]{6}\b", said[: said.rindex("\nQuestion")])
        return [coded.count(x) for x in outputs] == sorted((coded.count(x) for x in set(coded)), reverse=True)[:3]
    return sum(x in said for x in outputs) == len(outputs)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("task", TASKS)
def test_the_answers_are_there(kits, task, version):
    _, found = made_rows(kits, "words", version, task, 2048, 3)
    assert len(found) == 3
    assert all(holds(task, row) for row in found)


CASES = [("words", 1024), ("words", 4099), ("bytes", 3000), ("bytes", 9000), ("pairs", 1100), ("pieces", 2000)]


@pytest.mark.parametrize(("tokenizer", "length"), CASES)
@pytest.mark.parametrize("task", TASKS)
def test_exact_samples_are_as_long_as_they_may_be(kits, task, tokenizer, length):
    """They fill it, or one unit more does not fit. Where units are a 20th of the room or less, 95% is full."""
    made, found = made_rows(kits, tokenizer, "exact", task, length)
    encode, begin = TOKENIZERS[tokenizer].encode, int(TOKENIZERS[tokenizer].bos_id >= 0)
    for row in found:
        about, sample_seed = row["about"], SampleSeed(0, task, row["index"])
        tokens = len(encode(text(row))) + begin + made.room.max_new_tokens
        assert tokens <= length
        assert about["n_tokens"] == tokens - made.room.max_new_tokens
        assert about["fill"] == pytest.approx(tokens / length, abs=5e-5)
        more = len(encode(made.maker(sample_seed, about["size"] + 1).text)) + begin + made.room.max_new_tokens
        assert tokens == length or more > length or about["size"] == made.maker.max_size
        assert tokens >= 0.95 * length or more - tokens > 0.05 * length
        assert holds(task, row)


def used(kits, version, task, length):
    made, found = made_rows(kits, "words", version, task, length)
    return max(len(TOKENIZERS["words"].encode(text(row))) + made.room.max_new_tokens for row in found)


@pytest.mark.parametrize("version", ["2024", "main"])
@pytest.mark.parametrize("task", TASKS)
def test_versions_of_others_keep_their_limits(kits, task, version):
    """The token that opens a text is not in RULER's account."""
    if (version, task) != ("2024", "fwe"):
        assert all(used(kits, version, task, length) <= length for length in (2048, 4096))


def test_fwe_of_2024_forgets_the_answer_when_it_is_sized(kits):
    over = {version: [used(kits, version, "fwe", n) - n for n in (1024, 4096, 8192)] for version in VERSIONS}
    assert 0 < max(over["2024"]) <= 50
    assert max(over["main"]) <= 0
    assert max(over["exact"]) <= 0


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("task", TASKS)
def test_samples_are_their_seeds(kits, task, version):
    first, again, other = (made_rows(kits, "words", version, task, 2048, seed=seed)[1] for seed in (0, 0, 1))
    assert first == again
    assert [row["input"] for row in first] != [row["input"] for row in other]
    assert first[0]["input"] != first[1]["input"]


@pytest.mark.parametrize("task", TASKS)
def test_exact_samples_are_the_same_at_every_length(kits, task):
    short, long = (made_rows(kits, "words", "exact", task, length)[1] for length in (1100, 2200))
    assert [row["outputs"] for row in short] == [row["outputs"] for row in long] or task == "cwe"
    assert [row["about"].get("keys") for row in short] == [row["about"].get("keys") for row in long]


def test_shorter_than_a_task_can_be(kits, folder):
    with pytest.raises(TooShortError, match="--lengths=96 is too short for vt"):
        made_rows(kits, "words", "exact", "vt", 96)
    with pytest.raises(TooShortError):  # RULER's loop would not end
        made_rows(kits, "bytes", "2024", "niah_single_2", 1024)
    with pytest.raises(ValueError, match="too short for niah_single_1"):
        Ruler(ruler_samples=2).tasks(small_ruler.make_context(folder, TOKENIZERS["words"], 128))


@pytest.mark.parametrize("version", VERSIONS)
def test_no_length_is_too_short_to_say_so(kits, version):
    for task, length in itertools.product(TASKS, (1, 31, 64, 130)):
        with pytest.raises(TooShortError, match=f"--lengths={length} is too short for {task}"):
            made_rows(kits, "words", version, task, length)


def test_what_fits_runs_beside_what_does_not(folder, caplog):
    tasks = Ruler(ruler_samples=2).tasks(small_ruler.make_context(folder, TOKENIZERS["words"], 512))
    assert {task.name.split("/")[2] for task in tasks} == {*TASKS} - {"cwe"}
    assert "--lengths=512 is too short for cwe: left out" in caplog.text


def test_quirks_of_2024_are_there_and_not_in_ours(kits):
    old, ours = (made_rows(kits, "words", version, "vt", 2048, 3)[1] for version in ("2024", "exact"))
    question = kits["words"].named_prompts[0]["variable_tracking"].template.partition("\n")[0]
    examples = [{row["input"][: row["input"].rindex(question)] for row in found} for found in (old, ours)]
    assert [len(x) for x in examples] == [1, 3]  # one example for all; one each
    assert all(NOISE + "\n " in row["input"] and row["input"].startswith(" ") for row in old)
    assert not any(NOISE + "\n " in row["input"] or row["input"].startswith(" ") for row in ours)
    last = kits["words"].named_prompts[0]["variable_tracking"].template.split()[-1]
    assert [row["input"].count(last) for row in (old[0], ours[0])] == [1, 2]  # the example's question lost it
    lists = {version: made_rows(kits, "words", version, "cwe", 2048)[1][0]["input"] for version in VERSIONS}
    assert [":1. " in lists[version] for version in VERSIONS] == [False, False, True]


def test_a_needle_at_depth_0_has_a_space_before_it_in_peers_only():
    class First(random.Random):
        def sample(self, population, k, **_):
            return sorted(population)[:k]

    essays = Essays(["One", "two.", "Three", "four.", "Five", "six."])
    said = [InEssays(essays, join)(First(), 6, ["NEEDLE."]) for join in (join_nonempty, join_all)]
    assert said == ["NEEDLE. One two. Three four. Five six.", " NEEDLE. One two. Three four. Five six."]


def test_the_order_of_needles_is_the_samples_own(kits):
    orders = {}
    for version in VERSIONS:
        _, found = made_rows(kits, "words", version, "niah_multiquery", 2048, 6)
        orders[version] = {tuple(sorted(range(4), key=row["about"]["depths"].__getitem__)) for row in found}
    assert len(orders["exact"]) > 1


def test_depths_are_those_of_the_grid():
    assert len(set(DEPTHS)) == 40
    assert (DEPTHS[0], DEPTHS[1], DEPTHS[-1]) == (0, 3, 100)


def test_essays_begin_again():
    essays = Essays(["One", "two.", "Mr.", "Three", "four.", "Five"])
    assert essays.sentences[0] == ["One two.", "Mr. Three four.", "Five"]
    assert essays.first(4) == ["One two.", "Mr. Three"]
    assert " ".join(essays.first(8)).split() == [*essays.words, "One", "two."]


class Words:
    """A task of n words, and the sizes that were made; as a counter, it counts the words."""

    min_size = 3

    def __init__(self, max_size):
        self.max_size, self.sizes = max_size, []

    def __call__(self, sample_seed, n):
        self.sizes.append(n)
        return RulerSample("word " * n, "", [], {})

    def exact(self, said):
        return len(said.split())


def test_the_last_step_that_fits_is_found_without_all_before_it():
    """RULER of 2024 grows by steps, like 50, 60, 70, until it is too long."""
    settings = itertools.product((0, 40, 51, 60, 999), (1, 50), (1, 10), (2, 40, 58, 60, 10**9))
    for length, start, step, max_size in settings:
        maker, n, seeds = Words(max_size), max(start, 3), [SampleSeed(0, "cwe", 0)]
        room = Room(maker, length, 0, 0)
        while n <= max_size and n < length:
            n += step
        n = max_size if n > max_size else max(n - step, start, 3)
        assert list(Linear(start, step, 0)(maker, room, seeds)) == list(shrunk(n, step, length, maker, room, seeds))
    maker = Words(10**9)
    (fit,) = Linear(10, 10, 0)(maker, Room(maker, 10**5, 0, 0), seeds)
    assert (fit.size, len(maker.sizes) < 10) == (99_990, True)


def test_a_million_tokens_of_frequent_words_take_no_time_for_their_names():
    start = time.perf_counter()
    sample = FrequentWords(OWN["freq_words_extraction"], 40_000, SampleSeed.own_order)(SampleSeed(0, "fwe", 0), 1000)
    assert time.perf_counter() - start < 3  # 0.1 s; comparing every name with all others takes over 10
    assert len(set(sample.outputs)) == 3


def test_largest_is_the_largest():
    rng = random.Random(0)
    for _ in range(300):
        costs = list(itertools.accumulate(rng.choice([0, 1, 1, 2, 9, 200]) for _ in range(rng.randint(1, 60))))
        limit, guess, asked = rng.randint(-2, costs[-1] + 3), rng.randint(-9, 99), []
        found = largest(lambda n, a=asked, c=costs: a.append(n) or c[n], limit, 0, len(costs) - 1, guess)
        best = max((n for n, cost in enumerate(costs) if cost <= limit), default=None)
        assert found == best or costs[found] == limit
        assert len(asked) == len(set(asked)) <= 8 + 6  # guesses, and halvings of 60


@pytest.mark.parametrize("name", ["words", "bytes", "pieces"])
def test_counts_of_words_add_up(kits, name):
    counter = kits[name].counter
    assert counter.is_exact == (name == "pieces")
    for task in TASKS:
        _, found = made_rows(kits, "words", "2024", task, 2048, 1)
        said = text(found[0]) + "  two spaces \n\n and\ttabs "
        assert counter.quick(said) == counter.whole(said) == len(TOKENIZERS[name].encode(said))
        assert np.array_equal(counter.ids(said), TOKENIZERS[name].encode(said))


def test_counts_that_do_not_add_up_are_noticed(kits):
    assert not kits["pairs"].counter.is_exact
    assert kits["pairs"].counter.quick("one two three") != kits["pairs"].counter.exact("one two three")


@pytest.mark.parametrize(
    ("before", "slope", "limit"), [(400, 1, 500), (0, 13, 9000), (1100, 0.01, 1150), (3, 25, 99_999)]
)
def test_no_sample_is_made_that_is_far_too_long(before, slope, limit):
    """Sizes may go to a billion, and such a sample would fill the memory; `before` stands around what grows."""
    asked = []

    def count(n):
        asked.append(n)
        return before + int(slope * n)

    found = largest(count, limit, 0, 10**9, limit // 8)
    assert count(found) <= limit < count(found + 1) or count(found) == limit
    assert max(asked) <= max(2 * found + 1, limit // 8)
    assert len(asked) < 40
