import json
from dataclasses import dataclass
from typing import Literal

import pytest

from experiments.config import Adam
from experiments.serialization import decode, encode, flatten


@dataclass(frozen=True)
class Everything:
    seeds: int = 4
    decays: tuple[float, ...] = (0.9, 1)
    size: tuple[int, int] = (2, 3)
    kind: Literal["a", "b"] = "a"
    limit: float | None = None
    exact: bool = False
    optimizer: Adam = Adam(b2=0.99)


@pytest.mark.parametrize("config", [Everything(), Everything(5, (0.5,), (1, 1), "b", 2.5, True)])
def test_a_configuration_survives_json(config):
    assert decode(Everything, json.loads(json.dumps(encode(config)))) == config


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": "4"},
        {"seeds": 4.5},
        {"seeds": True},
        {"kind": "c"},
        {"size": [1, 2, 3]},
        {"limit": "none"},
        {"unknown": 1},
        {"optimizer": {"b2": 0.9}},
        {"optimizer": 3},
    ],
)
def test_what_does_not_fit_the_type_is_refused(change):
    with pytest.raises(ValueError, match=r"\w"):
        decode(Everything, encode(Everything()) | change)


def test_a_stored_configuration_is_validated_like_any_other():
    fields = encode(Everything())
    fields["optimizer"]["b2"] = 1.5
    with pytest.raises(ValueError, match=r"b2 must be in \[0, 1\), got 1.5"):
        decode(Everything, fields)


def test_flat_names_are_those_of_the_flags():
    flat = flatten(encode(Everything()))
    assert flat["optimizer.learning-rate"] == Adam().learning_rate
    assert flat["decays"] == [0.9, 1]
