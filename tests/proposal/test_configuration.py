"""Configs from YAML, dictionaries and --set."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import pytest

from proposal.configuration import (
    config_from_dict,
    config_to_dict,
    load_config,
    override_config,
)


@dataclass(frozen=True)
class Part:
    size: int = 3
    rates: tuple[float, ...] = (0.1, 0.2)
    name: str | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")


@dataclass(frozen=True)
class Whole:
    part: Part = field(default_factory=Part)
    parts: tuple[Part, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    lr: float = 1e-3
    maybe: Part | None = None


def test_defaults_file_and_overrides_in_that_order(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("lr: 1e-4\npart: {size: 5, name: x}\nparts: [{size: 7}]\n")
    config = load_config(Whole, path, ["part.size=6", "parts.0.rates=[1, 2]", "extra={a: [1]}"])
    assert config == Whole(
        part=Part(size=6, name="x"),
        parts=(Part(size=7, rates=(1.0, 2.0)),),
        extra={"a": [1]},
        lr=1e-4,
    )
    assert isinstance(config.part.rates, tuple)
    assert load_config(Whole, None, []) == Whole()


def test_there_and_back_through_json_kinds():
    config = Whole(part=Part(name="n"), parts=(Part(), Part(size=9)), extra={"k": {"v": 1.5}})
    values = config_to_dict(config)
    assert values["part"] == {"size": 3, "rates": [0.1, 0.2], "name": "n"}
    assert config_from_dict(Whole, values, "here") == config


def test_overrides_leave_the_original_alone():
    config = Whole(extra={"a": 1})
    changed = override_config(config, ["extra.b=2", "maybe.size=4", "part.name=null"])
    assert config.extra == {"a": 1}
    assert changed.extra == {"a": 1, "b": 2}
    assert changed.maybe == Part(size=4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        changed.lr = 2.0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["part.sise=3"], "unknown key part.sise: known are name, rates, size"),
        (["parts=[{sise: 3}]"], "unknown key parts.0.sise"),
        (["part.size.deep=3"], "part.size"),
        (["nonsense"], "must look like a.b=value, got 'nonsense'"),
        (["=3"], "must look like a.b=value"),
        (["part.size=many"], "part.size"),
        (["part.size=0"], "size must be at least 1, got 0"),
        (["part=3"], "part must be a mapping of settings, got a int"),
        (["parts.0.size=3"], "must be a list index below 0"),
        (["lr=[1"], "cannot read the value"),
    ],
)
def test_wrong_settings_are_refused_in_one_sentence(overrides, message):
    with pytest.raises(ValueError) as caught:
        load_config(Whole, None, overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "just words"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="a.yaml"):
        load_config(Whole, path, [])


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no configuration file"):
        load_config(Whole, tmp_path / "none.yaml", [])
