"""Questions over the 50 classes of TREC (Li and Roth 2002): its labels, LongBench's names for them, made questions."""

import random
from typing import NamedTuple

from tools.eval_data import prose
from tools.eval_data.world import Files, World


class Kind(NamedTuple):
    label: str
    name: str
    form: str


TABLE = """
ABBR:abb | Abbreviation | What is the abbreviation of {town} {thing} office ?
ABBR:exp | Expression abbreviated | What does the {initials} on a {thing} stand for ?
DESC:def | Definition of something | What is a {colour} {thing} ?
DESC:desc | Description of something | What happened to the {thing} of {town} ?
DESC:manner | Manner of an action | How do you repair a {adjective} {thing} ?
DESC:reason | Reason | Why is the {thing} of {town} {colour} ?
ENTY:animal | Animal | What animal lives in the {place} of {town} ?
ENTY:body | Organ of body | What part of the body does a {trade} use most ?
ENTY:color | Color | What color is the {thing} of {town} ?
ENTY:cremat | Invention, book and other creative piece | What book tells of the {colour} {thing} ?
ENTY:currency | Currency name | What money is used in the {place} of {town} ?
ENTY:dismed | Disease and medicine | What disease do {trade}s of {town} suffer from ?
ENTY:event | Event | What war began in the {place} of {town} ?
ENTY:food | Food | What do the {trade}s of {town} eat at noon ?
ENTY:instru | Musical instrument | What instrument does the {trade} of {town} play ?
ENTY:lang | Language | What language is spoken in the {place} of {town} ?
ENTY:letter | Letter like a-z | What letter is painted on the {colour} {thing} ?
ENTY:other | Other entity | What lies beneath the {adjective} {place} ?
ENTY:plant | Plant | What tree grows beside the {place} of {town} ?
ENTY:product | Product | What does the {place} of {town} sell ?
ENTY:religion | Religion | What faith do the {trade}s of {town} have ?
ENTY:sport | Sport | What game is played behind the {place} ?
ENTY:substance | Element and substance | What is the {colour} {thing} made of ?
ENTY:symbol | Symbols and sign | What sign hangs above the {place} of {town} ?
ENTY:techmeth | Techniques and method | What method does a {trade} use for a {thing} ?
ENTY:termeq | Equivalent term | What is another word for a {adjective} {thing} ?
ENTY:veh | Vehicle | What ship carried the {thing} to {town} ?
ENTY:word | Word with a special property | What word rhymes with {thing} ?
HUM:desc | Description of a person | Who was {who} ?
HUM:gr | Group or organization of person | What company owns the {place} of {town} ?
HUM:ind | Individual | Who built the {adjective} {thing} of {town} ?
HUM:title | Title of a person | What is the title of the {trade} of {town} ?
LOC:city | City | What city has a {colour} {place} ?
LOC:country | Country | What country is {town} in ?
LOC:mount | Mountain | What mountain stands behind {town} ?
LOC:other | Other location | Where is the {colour} {thing} kept ?
LOC:state | State | What state has the most {thing}s ?
NUM:code | Postcode or other code | What is the telephone number of the {place} in {town} ?
NUM:count | Number of something | How many {thing}s are in the {place} of {town} ?
NUM:date | Date | When was the {place} of {town} built ?
NUM:dist | Distance, linear measure | How far is it from {town} to the {place} ?
NUM:money | Price | How much does a {colour} {thing} cost ?
NUM:ord | Order, rank | In which chapter is the {thing} of {town} named ?
NUM:other | Other number | What number is on the {adjective} {place} ?
NUM:perc | Percent, fraction | What share of the {trade}s owns a {thing} ?
NUM:period | Lasting time of somethin | How long does it take to mend a {thing} ?
NUM:speed | Speed | How fast can a {trade} carry a {thing} ?
NUM:temp | Temperature | How hot is the {place} of {town} in summer ?
NUM:volsize | Size, area and volume | How big is the {place} of {town} ?
NUM:weight | Weight | How heavy is a {colour} {thing} ?
"""  # the last letter of one name is missing in LongBench too
KINDS = [Kind(*row.split(" | ")) for row in TABLE.strip().split("\n")]


def question(rng: random.Random, kind: Kind) -> str:
    pick = rng.choice
    return kind.form.format(
        town=pick(prose.TOWNS), thing=pick(prose.THINGS), colour=pick(prose.COLOURS), place=pick(prose.PLACES),
        trade=pick(prose.TRADES), adjective=pick(prose.ADJECTIVES), who=f"{pick(prose.FIRST)} {pick(prose.LAST)}",
        initials="".join(rng.sample("ABCDEFGHKLMNPRST", 3)),
    )  # fmt: skip


def files(world: World) -> Files:
    """TREC's own lines; the training set has all classes and enough of them for 1000 shots."""
    yield "manyshot/train.label", _lines(world.rng("manyshot", "train"), 1200)
    yield "manyshot/test.label", _lines(world.rng("manyshot", "test"), max(10, world.examples))


def _lines(rng: random.Random, count: int) -> bytes:
    kinds = [KINDS[i % len(KINDS)] for i in range(count)]
    rng.shuffle(kinds)
    return "".join(f"{kind.label} {question(rng, kind)}\n" for kind in kinds).encode("latin-1")
