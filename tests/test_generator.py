"""The model under test as evaluators see it: any batch, any bucket, any mesh gives the answer of the model itself."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax import sharding
from longjax.attention.blockwise import Blockwise
from longjax.attention.core import TokenPositions
from longjax.config import TINY
from longjax.evals.batching import Batch, BatchPlan, ProgramShape
from longjax.evals.requests import GenerationRequest, LoglikelihoodRequest, Task
from longjax.inference import rope_length, score
from longjax.inference.decode import decode, prefill
from longjax.inference.engine import InferenceEngine
from longjax.inference.evaluate import check_cache_memory
from longjax.model.llama import Llama, logits
from shape_names import checked
from small import SMALL

CFG = dataclasses.replace(TINY, vocab=96)
RANDOM = np.random.default_rng(5).integers(3, 90, (8, 200)).astype(np.int32)
DIFFERENT = ["ntk_frozen", "clex", "self_extend_auto", "lm_infinite", "alibi", "landmark"]


@dataclasses.dataclass
class Letters:
    """A tokenizer whose ids are letters."""

    vocab: int = 95
    bos_id: int = 1
    eos_ids: tuple[int, ...] = (2,)
    special: tuple[int, ...] = ()  # written as <i>

    def decode(self, ids):
        return "".join(f"<{int(i)}>" if i in self.special else chr(32 + int(i)) for i in ids)

    def decode_text(self, ids):
        return self.decode([i for i in ids if i not in self.special])


@functools.cache
def params_of(method):
    one = jnp.zeros((1, 8), jnp.int32)
    made = jax.jit(lambda key: Llama(CFG, method).init(key, one, TokenPositions.whole(1, 8), 8)["params"])(
        jax.random.key(0)
    )
    own = jax.tree.map(lambda x: 0.02 * jax.random.normal(jax.random.key(1), x.shape), made.get("method", {}))
    wide = {name: x * 2 if name in ("q_DNH", "k_DKH") else x for name, x in made.items()}
    return wide | ({"method": own} if own else {})


def examinee(method, mesh=None, batch_tokens=512, **changes):
    place = sharding.MeshPlacement() if mesh else Llama(CFG).placement
    params = params_of(method)
    model = Llama(CFG, method, backend=Blockwise(32, 32), placement=place)
    return InferenceEngine(
        model, sharding.shard_params(params, mesh) if mesh else params, Letters(**changes), {}, mesh, batch_tokens
    )


def prompt(row, length):
    return RANDOM[row, :length]


def greedy(method, tokens, new, size=128):
    """The likeliest token again and again, each from a forward pass over the whole row."""
    model, params, real = Llama(CFG, method), params_of(method), len(tokens) + new
    rope = method.rope(CFG, real, params.get("method", {}), None)

    @jax.jit
    def forward(x_BT):
        return logits(params, model.apply({"params": params}, x_BT, TokenPositions.whole(1, size), real, rope=rope)[0])[
            0
        ]

    row, logprob = list(tokens), 0.0
    for _ in range(new):
        longer = np.array([row])
        if method.insert_tokens:
            longer = method.insert_tokens(np.array([[*row, 0]]), CFG.vocab - 1)[0][:, :-1]
        padded = np.zeros((1, size), np.int32)
        padded[0, : longer.shape[1]] = longer
        x_V = np.asarray(forward(padded), np.float64)[longer.shape[1] - 1]
        x_V[Letters.vocab :] = -np.inf
        row.append(int(x_V.argmax()))
        logprob += x_V.max() - np.log(np.exp(x_V).sum())
    return tuple(row[len(tokens) :]), logprob


@pytest.mark.parametrize("name", DIFFERENT)
def test_an_answer_is_the_likeliest_token_again_and_again(name):
    """Rows of several lengths in one call, one of them alone in another."""
    subject = examinee(SMALL[name], eos_ids=())
    asked = [
        GenerationRequest(prompt(i, length), {}, new) for i, (length, new) in enumerate(((50, 6), (37, 9), (41, 3)))
    ]
    answers = subject(asked)
    for question, answer in zip(asked[:2], answers, strict=False):
        ids, logprob = greedy(SMALL[name], question.tokens_T, question.max_new_tokens)
        assert answer.ids == ids
        assert answer.text == Letters().decode(ids)
        assert answer.finish_reason == "length"
        np.testing.assert_allclose(answer.logprob, logprob, atol=1e-4)  # sums of a few float32 logits of about 5
    assert len(answers[2].ids) == 3


def test_no_batch_no_bucket_and_no_chunk_changes_an_answer(monkeypatch):
    method = SMALL["ntk_frozen"]  # frequencies by each row's own length
    asked = [GenerationRequest(prompt(i, 70 + 9 * i), {}, 5) for i in range(4)]
    likely = [LoglikelihoodRequest(prompt(i, 70 + 9 * i), {}, 20) for i in range(4)]
    many, one = examinee(method, batch_tokens=1024, eos_ids=()), examinee(method, batch_tokens=1, eos_ids=())
    assert [b.shape.rows for b in many.plan(asked).batches] == [4]
    assert [b.shape.rows for b in one.plan(asked).batches] == [1] * 4
    monkeypatch.setattr("longjax.inference.decode.PREFILL_CHUNK", 32)
    monkeypatch.setattr("longjax.evals.batching.bucket", lambda size: 512)
    other = examinee(method, eos_ids=())
    assert {b.shape.size for b in other.plan(asked).batches} == {512}
    for subject in (one, other):
        for want, got in zip(many(asked), subject(asked), strict=True):
            assert got.ids == want.ids
            np.testing.assert_allclose(got.logprob, want.logprob, atol=1e-4)
        for want, got in zip(many(likely), subject(likely), strict=True):
            np.testing.assert_allclose(got.nll_U, want.nll_U, atol=1e-5)
            assert len(got.is_greedy_U) == len(want.is_greedy_U)


def test_answers_end_where_they_should():
    subject = examinee(SMALL["base"], eos_ids=())
    free = subject([GenerationRequest(prompt(0, 40), {}, 40)])[0]
    third = free.ids[2]
    where = free.ids.index(third)
    ended = subject(
        [GenerationRequest(prompt(0, 40), {}, 40, stop_ids=(third,)), GenerationRequest(prompt(1, 33), {}, 40)]
    )[0]
    assert (ended.ids, ended.finish_reason) == (free.ids[:where], "stop")
    eos = examinee(SMALL["base"], eos_ids=(1000, third))([GenerationRequest(prompt(0, 40), {}, 40)])[0]
    assert (eos.ids, eos.finish_reason) == (free.ids[:where], "eos")
    later = subject([GenerationRequest(prompt(0, 40), {}, 40, stop_ids=(third,), min_new_tokens=where + 1)])[0]
    assert len(later.ids) > where
    assert later.ids[:where] == free.ids[:where]
    assert third not in later.ids[: where + 1]
    marked = examinee(SMALL["base"], eos_ids=(), special=(third,))
    whole = marked([GenerationRequest(prompt(0, 40), {}, 40)])[0]
    assert whole.text == free.text.replace(chr(32 + third), "")  # what is scored
    assert whole.raw_text == free.text.replace(chr(32 + third), f"<{third}>")
    until = marked([GenerationRequest(prompt(0, 40), {}, 40, stop_texts=(f"<{third}>",))])[0]
    assert (until.text, until.raw_text, until.finish_reason) == (free.text[:where], free.text[:where], "stop")
    text = free.text[34:36]
    cut = subject([GenerationRequest(prompt(0, 40), {}, 40, stop_texts=(text, "no such text"))])[0]
    assert (cut.text, cut.finish_reason) == (free.text[: free.text.find(text)], "stop")


def test_a_sticky_state_keeps_the_frequencies_of_the_longest_text_so_far():
    """As in the study's code: what a model sees first changes what it says later."""
    method, tokens_T = SMALL["ntk_frozen"], prompt(1, 60)
    own, sticky = examinee(method), dataclasses.replace(examinee(method), rope_length=rope_length.sticky)
    questions = [
        LoglikelihoodRequest(prompt(0, 150), {}),
        LoglikelihoodRequest(tokens_T, {}),
        LoglikelihoodRequest(prompt(2, 170), {}),
    ]
    rope = method.rope(CFG, 150, {}, None)
    model = Llama(CFG, method)
    hidden, _ = model.apply({"params": params_of(method)}, tokens_T[None], TokenPositions.whole(1, 60), 60, rope=rope)
    x_TV = np.asarray(logits(params_of(method), hidden))[0, :-1]
    want = jax.nn.logsumexp(x_TV, axis=-1) - x_TV[np.arange(59), tokens_T[1:]]
    np.testing.assert_allclose(sticky(questions)[1].nll_U, want, atol=2e-5)
    assert np.abs(own(questions)[1].nll_U - want).max() > 0.01
    assert [b.lengths for b in sticky.plan(questions).batches] == [(150, 170), (150,)]


def test_words_that_the_tokenizer_lacks_are_never_said():
    narrow = examinee(SMALL["base"], eos_ids=(), vocab=12)([GenerationRequest(prompt(0, 40), {}, 30)])[0]
    assert max(narrow.ids) < 12


def altered(subject, **factors):
    """-> the model under test with some of its parameters multiplied."""
    return dataclasses.replace(subject, params=subject.params | {n: f * subject.params[n] for n, f in factors.items()})


@pytest.mark.parametrize(
    ("name", "vocab", "factor"),
    [("ntk_frozen", 95, 1), ("ntk_frozen", 12, 1), ("ntk_frozen", 12, 0), ("landmark", 9, 1)],
)
def test_a_token_is_a_hit_exactly_if_greedy_decoding_gives_it(name, vocab, factor):
    """Also where all logits are equal, and where the tokenizer lacks the likeliest ids (a landmark is the last one)."""
    subject = altered(examinee(SMALL[name], eos_ids=(), vocab=vocab), norm_D=factor)
    (answer,) = subject([GenerationRequest(prompt(0, 40), {}, 12)])
    assert max(answer.ids) < vocab
    if not factor:
        assert set(answer.ids) == {0}  # the lowest of equals, as of jnp.argmax
    ids_T = np.array([*prompt(0, 40), *answer.ids], np.int32)
    others = [np.where(np.arange(52) == t, (ids_T[t] + shift) % 95, ids_T) for t in (40, 51) for shift in (1, 7, 94)]
    given, *changed = subject([LoglikelihoodRequest(x.astype(np.int32), {}, 40) for x in (ids_T, *others)])
    assert given.is_greedy_U.all()
    assert not any(x.is_greedy_U[i // 3 * 11] for i, x in enumerate(changed))


def test_a_model_that_gives_nan_hits_nothing():
    subject = altered(examinee(SMALL["ntk_frozen"], eos_ids=()), norm_D=np.nan)
    answer, scores = subject(
        [GenerationRequest(prompt(0, 40), {}, 3), LoglikelihoodRequest(np.zeros(40, np.int32), {})]
    )
    assert np.isnan(answer.logprob)
    assert np.isnan(scores.nll_U).all()
    assert not scores.is_greedy_U.any()


def test_a_plan_tells_how_many_programs_are_compiled():
    """Two likelihood shapes, one of generation: not one more, whatever the lengths."""
    subject = examinee(SMALL["ntk_frozen"], batch_tokens=256, eos_ids=())
    asked = [LoglikelihoodRequest(prompt(i % 8, 65 + i), {}) for i in range(12)] + [
        LoglikelihoodRequest(prompt(0, 150), {})
    ]
    asked += [GenerationRequest(prompt(i, 70 + i), {}, 4 + i) for i in range(5)]
    plan = subject.plan(asked)
    for program in (score.score_batch, prefill, decode):
        program.clear_cache()
    subject(asked)
    likelihoods = {s for s in plan.shapes if s.kind == "likelihood"}
    assert score.score_batch._cache_size() == len(likelihoods) == 2
    assert prefill._cache_size() == decode._cache_size() == len(plan.shapes) - len(likelihoods) == 1


@pytest.mark.parametrize(("name", "seq"), [("ntk_frozen", 2), ("lm_infinite", 2), ("landmark", 1)])
def test_on_a_mesh(name, seq):
    """Rows, heads and, with seq, the slots of the cache are split."""
    method, sizes = SMALL[name], {"data": 2, "seq": seq, "model": 2, "fsdp": 2 // seq}
    asked = [GenerationRequest(prompt(i, 50 + 7 * i), {}, 5) for i in range(3)]
    likely = [LoglikelihoodRequest(prompt(i, 50 + 7 * i), {}, 20) for i in range(3)]
    alone, spread = examinee(method, eos_ids=()), examinee(method, sharding.make_mesh(**sizes), eos_ids=())
    for want, got in zip(alone(asked), spread(asked), strict=True):
        assert got.ids == want.ids
        np.testing.assert_allclose(got.logprob, want.logprob, atol=1e-4)
    for want, got in zip(alone(likely), spread(likely), strict=True):
        np.testing.assert_allclose(got.nll_U, want.nll_U, atol=1e-5)


def test_array_names_tell_the_truth():
    with checked("/longjax/") as seen:
        examinee(SMALL["landmark"], eos_ids=())(
            [GenerationRequest(prompt(0, 40), {}, 3), LoglikelihoodRequest(prompt(1, 20), {})]
        )
    assert len(seen) > 100


def test_a_cache_that_no_memory_holds_is_refused_before_it_is_made():
    task, subject = Task("needle", [], {}), examinee(SMALL["base"])
    check_cache_memory([(task, subject.plan([GenerationRequest(prompt(0, 40), {}, 3)]))], subject)
    plan = BatchPlan((Batch(ProgramShape("generation", 4, 2**29), (), (), ()),))
    with pytest.raises(ValueError, match=r"--batch_tokens: a batch of 4 x 536870912 tokens needs [\d,]+ GiB"):
        check_cache_memory([(task, plan)], subject)


def test_mistakes_are_told():
    subject = dataclasses.replace(examinee(SMALL["base"]), max_length=60)
    with pytest.raises(ValueError, match="request 1 has 61 tokens with those to be generated, over --max_length=60"):
        subject.plan([LoglikelihoodRequest(prompt(0, 60), {}), GenerationRequest(prompt(0, 50), {}, 11)])
    with pytest.raises(ValueError, match="request 0 has token 96, but the vocabulary has 96"):
        subject.plan([LoglikelihoodRequest(np.array([3, 96], np.int32), {})])
