"""Questions of the 50 classes of TREC (Li and Roth 2002), in its own format."""

import random
from typing import NamedTuple

from longjax.evals.manyshot import NAMES
from longjax.evals.synthetic import prose
from longjax.evals.synthetic.settings import Files, SyntheticConfig


class QuestionKind(NamedTuple):
    """A class: its label, its name in LongBench, and the form of its questions."""

    label: str
    name: str
    form: str


FORMS = """
ABBR:abb What is the abbreviation of {town} {thing} office ?
ABBR:exp What does the {initials} on a {thing} stand for ?
DESC:def What is a {color} {thing} ?
DESC:desc What happened to the {thing} of {town} ?
DESC:manner How do you repair a {adjective} {thing} ?
DESC:reason Why is the {thing} of {town} {color} ?
ENTY:animal What animal lives in the {place} of {town} ?
ENTY:body What part of the body does a {trade} use most ?
ENTY:color What color is the {thing} of {town} ?
ENTY:cremat What book tells of the {color} {thing} ?
ENTY:currency What money is used in the {place} of {town} ?
ENTY:dismed What disease do {trade}s of {town} suffer from ?
ENTY:event What war began in the {place} of {town} ?
ENTY:food What do the {trade}s of {town} eat at noon ?
ENTY:instru What instrument does the {trade} of {town} play ?
ENTY:lang What language is spoken in the {place} of {town} ?
ENTY:letter What letter is painted on the {color} {thing} ?
ENTY:other What lies beneath the {adjective} {place} ?
ENTY:plant What tree grows beside the {place} of {town} ?
ENTY:product What does the {place} of {town} sell ?
ENTY:religion What faith do the {trade}s of {town} have ?
ENTY:sport What game is played behind the {place} ?
ENTY:substance What is the {color} {thing} made of ?
ENTY:symbol What sign hangs above the {place} of {town} ?
ENTY:techmeth What method does a {trade} use for a {thing} ?
ENTY:termeq What is another word for a {adjective} {thing} ?
ENTY:veh What ship carried the {thing} to {town} ?
ENTY:word What word rhymes with {thing} ?
HUM:desc Who was {who} ?
HUM:gr What company owns the {place} of {town} ?
HUM:ind Who built the {adjective} {thing} of {town} ?
HUM:title What is the title of the {trade} of {town} ?
LOC:city What city has a {color} {place} ?
LOC:country What country is {town} in ?
LOC:mount What mountain stands behind {town} ?
LOC:other Where is the {color} {thing} kept ?
LOC:state What state has the most {thing}s ?
NUM:code What is the telephone number of the {place} in {town} ?
NUM:count How many {thing}s are in the {place} of {town} ?
NUM:date When was the {place} of {town} built ?
NUM:dist How far is it from {town} to the {place} ?
NUM:money How much does a {color} {thing} cost ?
NUM:ord In which chapter is the {thing} of {town} named ?
NUM:other What number is on the {adjective} {place} ?
NUM:perc What share of the {trade}s owns a {thing} ?
NUM:period How long does it take to mend a {thing} ?
NUM:speed How fast can a {trade} carry a {thing} ?
NUM:temp How hot is the {place} of {town} in summer ?
NUM:volsize How big is the {place} of {town} ?
NUM:weight How heavy is a {color} {thing} ?
"""
ROWS = [row.partition(" ") for row in FORMS.strip().split("\n")]
KINDS = [QuestionKind(label, NAMES[label], form) for label, _, form in ROWS]


def trec_question(rng: random.Random, kind: QuestionKind) -> str:
    """Return a random question of a class."""
    pick = rng.choice
    return kind.form.format(
        town=pick(prose.TOWNS), thing=pick(prose.THINGS), color=pick(prose.COLORS), place=pick(prose.PLACES),
        trade=pick(prose.TRADES), adjective=pick(prose.ADJECTIVES), who=f"{pick(prose.FIRST)} {pick(prose.LAST)}",
        initials="".join(rng.sample("ABCDEFGHKLMNPRST", 3)),
    )  # fmt: skip


def files(config: SyntheticConfig) -> Files:
    """Yield manyshot/train.label, with all classes and enough questions for 1000 shots, and manyshot/test.label."""
    yield "manyshot/train.label", _lines(config.rng("manyshot", "train"), 1200)
    yield "manyshot/test.label", _lines(config.rng("manyshot", "test"), max(10, config.examples))


def _lines(rng: random.Random, count: int) -> bytes:
    kinds = [KINDS[i % len(KINDS)] for i in range(count)]
    rng.shuffle(kinds)
    return "".join(f"{kind.label} {trec_question(rng, kind)}\n" for kind in kinds).encode("latin-1")
