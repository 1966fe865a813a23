"""The prompts of the tasks: ours, or RULER's from a file of the user's."""

import pathlib

from longjax.evals.prompts import RULER, RulerPrompt, ruler_prompts
from longjax.files import sha256_file

OWN = {
    "niah": RulerPrompt(
        "Some special magic {type_needle_v} are hidden somewhere in this text. A question about the {type_needle_v} "
        "comes at its end.\n{context}\nQuestion: what are all the special magic {type_needle_v} that the text gives "
        "for {query}?",
        " Answer: the special magic {type_needle_v} that the text gives for {query} are",
        128,
    ),
    "variable_tracking": RulerPrompt(
        "Follow the assignments of variables that stand between the lines of this text.\n\n{context}\nQuestion: which "
        "variables hold the value {query}, at first hand or through others?",
        " Answer: the {num_v} variables that hold the value {query} are: ",
        30,
    ),
    "common_words_extraction": RulerPrompt(
        "Here is a numbered list of words. Some of them come up more often than the others; keep track of those.\n"
        "{context}\nQuestion: which 10 words come up most often in the list?",
        " Answer: the 10 words that come up most often are:",
        120,
    ),
    "freq_words_extraction": RulerPrompt(
        "This is a text of coded words. Count how often each of them occurs. {context}\nQuestion: leaving out the dots "
        "'...', which three coded words occur most often? Give these words and nothing else.",
        " Answer: the three coded words that occur most often are:",
        50,
    ),
    "qa": RulerPrompt(
        "Answer the question from the documents below, in as few words as possible.\n\n{context}\n\nAnswer the "
        "question from the documents above, in as few words as possible.\n\nQuestion: {query}",
        " Answer:",
        32,
    ),
}


def prompts_and_id(folder: pathlib.Path | None) -> tuple[dict[str, RulerPrompt], str]:
    """Return prompts by base task, and their name in manifests; `folder` None: ours."""
    return (OWN, "own") if folder is None else (ruler_prompts(folder), sha256_file(folder / RULER))


def corrected(prompt: RulerPrompt) -> RulerPrompt:
    """Return a prompt without the misspelling that RULER has corrected."""
    template, prefix = (x.replace("assgined", "assigned") for x in (prompt.template, prompt.answer_prefix))
    return RulerPrompt(template, prefix, prompt.max_new_tokens)


def unchanged(prompt: RulerPrompt) -> RulerPrompt:
    """Return a prompt as it is."""
    return prompt
