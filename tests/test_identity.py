"""A method's name and settings: what files keep of it."""

import dataclasses
import json
import pickle

import pytest

from longjax.checkpoints.config_from_hf import method_of, on_base
from longjax.cli.options import trained_where
from longjax.methods import METHODS, compose, ds_bf16, identified, method_identity, with_lora
from longjax.methods.identity import identity_as_call
from longjax.methods.method import Method, frozen, unfrozen
from test_hf_config import MISTRAL, SIZES
from tiny_preset import SETTINGS

OTHER = {bool: lambda x: not x, int: lambda x: x + 1, float: lambda x: x + 0.5}
CHOICES = {  # what the parameters that are not numbers may be beside their default here; None becomes a number
    "act": "tanh", "shift": {"longlora": "noshift", "self_extend": "true_division"}, "select": "chunk_max",
    "short_factor": "3", "long_factor": "3",
}  # fmt: skip
SMALL = {"longrope": {"short_factor": "1", "long_factor": "2"}, "self_extend": {"window": 64, "group": 1}}
yarn, clex, self_extend = METHODS["yarn"], METHODS["clex"], METHODS["self_extend"]
COMPOSED = {
    "compose": compose(yarn(4.0), self_extend()),
    "with_lora": with_lora(clex(), 4, names=("q", "v")),
    "ds_bf16": ds_bf16(METHODS["pi"](4.0)),
    "ds_bf16 of with_lora": ds_bf16(with_lora(METHODS["pi"](4.0))),
    "trained_where": trained_where(yarn(), "norm"),
    "unfrozen": unfrozen(METHODS["ntk_frozen"]()),
    "base": on_base(self_extend(), method_of(MISTRAL | {"rope_scaling": {"type": "linear", "factor": 2.0}})),
    "user's": Method(trainable=frozen),
}


def changed(name, parameter, value):
    """-> another value of this parameter."""
    if parameter == "low_freq_factor":  # below the high one
        return value / 2
    if parameter in CHOICES:
        choice = CHOICES[parameter]
        return choice[name] if isinstance(choice, dict) else choice
    return 0.5 if value is None and "scale" in parameter else 64 if value is None else OTHER[type(value)](value)


def through_json(value):
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("name", METHODS)
def test_identity_makes_the_method_again(name):
    for settings in (SMALL.get(name, {}), SETTINGS.get(name, {})):
        method = METHODS[name](**settings)
        found = method_identity(method)
        assert found["name"] == name
        assert settings.items() <= found["settings"].items() or name == "longrope"
        again = METHODS[found["name"]](**through_json(found)["settings"])
        assert again == method
        assert through_json(found) == found == method_identity(again)


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_counts(name):
    given = method_identity(METHODS[name](**SMALL.get(name, {})))["settings"]
    found = [given]
    for parameter, value in given.items():
        other = changed(name, parameter, value)
        found.append(method_identity(METHODS[name](**given | {parameter: other}))["settings"])
    assert len({json.dumps(x, sort_keys=True) for x in found}) == len(given) + 1


@pytest.mark.parametrize("name", COMPOSED)
def test_composed_methods_nest(name):
    found = method_identity(COMPOSED[name])
    assert through_json(found) == found
    assert identity_as_call(found).startswith(found["name"] + "(")
    assert method_identity(pickle.loads(pickle.dumps(COMPOSED[name]))) == found
    everybody = [json.dumps(method_identity(m), sort_keys=True) for m in COMPOSED.values()]
    assert len({*everybody}) == len(everybody)


def test_no_name_of_a_class_or_function_is_kept():
    for method in (*(make(**SMALL.get(name, {})) for name, make in METHODS.items()), *list(COMPOSED.values())[:-1]):
        text = json.dumps(method_identity(method))
        assert "(" not in text
        assert "<" not in text


def test_words():
    assert (
        identity_as_call(method_identity(COMPOSED["ds_bf16"]))
        == "ds_bf16(method=pi(factor=4.0), built_len=None, run=1)"
    )
    assert method_identity(yarn(4)) == method_identity(yarn(factor=4.0)) != method_identity(yarn())
    assert identity_as_call("as 0.1 wrote it") == "as 0.1 wrote it"


def test_a_changed_method_is_another_one():
    method = yarn(4.0)
    other = dataclasses.replace(method, trainable=frozen)
    assert method_identity(other) != method_identity(method)
    assert method_identity(other)["name"] == "method"
    assert method_identity(Method()) == {"name": "method", "settings": {}}


def test_equal_methods_share_a_program_whatever_made_them():
    @identified
    def mine() -> Method:
        return yarn(4.0)

    assert method_identity(mine()) == {"name": "mine", "settings": {}}
    assert mine() == yarn(4.0)
    assert hash(mine()) == hash(yarn(4.0))


def test_factors_count_and_not_their_file(tmp_path):
    path = tmp_path / "long.json"
    path.write_text("[1, 2.5]")
    from_file, given = (METHODS["longrope"]("1,1", long) for long in (str(path), "1.0,2.5"))
    assert method_identity(from_file) == method_identity(given)


def test_a_base_that_already_has_it_adds_nothing():
    base = method_of(MISTRAL)
    applied = on_base(yarn(4.0), base)
    window = method_identity(base)["settings"]["attention"]
    assert method_identity(applied)["settings"] == {"method": method_identity(yarn(4.0)), "attention": window}
    assert method_identity(on_base(yarn(4.0), method_of(SIZES))) == method_identity(yarn(4.0))
