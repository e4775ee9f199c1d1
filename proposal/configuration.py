"""Frozen dataclasses read from YAML, from dictionaries, changed by ``a.b=value``."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

Config = TypeVar("Config")


def load_config(cls: type[Config], path: Path | str | None, overrides: Sequence[str]) -> Config:
    """The defaults of ``cls``, then the YAML file's values, then ``a.b=value`` overrides.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no YAML mapping, a key is unknown, a value does not fit.
    """
    values = {} if path is None else _read_yaml(Path(path))
    where = "the configuration" if path is None else str(path)
    config = config_from_dict(cls, values, where)
    return override_config(config, overrides)


def override_config(config: Config, overrides: Sequence[str]) -> Config:
    """A copy of ``config`` with ``a.b=value`` applied; ``a.0.b=value`` reaches into lists."""
    values = config_to_dict(config)
    for override in overrides:
        _set(values, override)
    return config_from_dict(type(config), values, "--set")


def config_from_dict(cls: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """A nested mapping -> a dataclass of type ``cls``; ``where`` says in errors where it was read.

    Keys that are left out keep their defaults.

    Raises:
        ValueError: a key is unknown (the known ones are listed) or a value has the wrong kind.
    """
    _check_keys(cls, values, where, "")
    try:
        node = OmegaConf.structured(cls)
        _make_writable(node)
        config = OmegaConf.to_object(OmegaConf.merge(node, OmegaConf.create(dict(values))))
    except OmegaConfBaseException as error:
        reason = str(error.msg or error).splitlines()[0]
        reason = reason.replace("Value '$VALUE' of type '$VALUE_TYPE'", "an item of a list")
        key = f" at {error.full_key}" if getattr(error, "full_key", None) else ""
        raise ValueError(f"{where} does not fit {cls.__name__}{key}: {reason}") from error
    return _build_items(config, where)


def config_to_dict(config: Any) -> Any:
    """A dataclass -> plain dictionaries, lists and numbers, ready for JSON or YAML."""
    if is_dataclass(config) and not isinstance(config, type):
        return {f.name: config_to_dict(getattr(config, f.name)) for f in fields(config)}
    if isinstance(config, Mapping):
        return {key: config_to_dict(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [config_to_dict(value) for value in config]
    return config


def _build_items(config: Any, where: str) -> Any:
    """OmegaConf leaves the items of a tuple of dataclasses as mappings: build those too."""
    hints = typing.get_type_hints(type(config))
    changes = {}
    for name, value in ((f.name, getattr(config, f.name)) for f in fields(config)):
        item = next(iter(typing.get_args(hints[name])), None)
        if is_dataclass(value):
            changes[name] = _build_items(value, where)
        elif isinstance(value, list | tuple) and is_dataclass(item):
            items = [_as_mapping(each) for each in value]
            changes[name] = tuple(config_from_dict(item, each, where) for each in items)
    return replace(config, **changes)


def _as_mapping(value: Any) -> Any:
    return config_to_dict(value) if is_dataclass(value) else value


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no configuration file {path}: give the path of a YAML")
    try:
        # Through OmegaConf, because YAML alone reads 1e-4 as a word.
        values = OmegaConf.to_container(OmegaConf.create(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not a YAML mapping: {reason}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a YAML mapping, got a {type(values).__name__}")
    return values


def _set(values: dict[str, Any], override: str) -> None:
    """Write one ``a.b=value`` into a nested dictionary of our own making."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ValueError(f"a setting must look like a.b=value, got {override!r}")
    place: Any = values
    for depth, key in enumerate(keys):
        key = _key_into(place, key, ".".join(keys[: depth + 1]))
        if depth == len(keys) - 1:
            place[key] = _parse(text)
        elif isinstance(place, dict) and not isinstance(place.get(key), dict | list):
            place[key] = {}  # an unknown key is refused with the known ones when merged
        place = place[key]


def _key_into(place: Any, key: str, path: str) -> str | int:
    if isinstance(place, dict):
        return key
    if not isinstance(place, list):
        raise ValueError(f"--set {path} reaches into a plain value: it has no settings inside")
    if not key.isdigit() or int(key) >= len(place):
        raise ValueError(f"--set {path} must be a list index below {len(place)}, got {key!r}")
    return int(key)


def _parse(text: str) -> Any:
    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"cannot read the value {text!r}: write it as in YAML") from error
    return parsed["value"]


def _make_writable(node: Any) -> None:
    """Frozen dataclasses become read-only nodes, each of which has its own flag."""
    OmegaConf.set_readonly(node, None)
    children = node.values() if OmegaConf.is_dict(node) else node
    for child in [c for c in children if OmegaConf.is_config(c)]:
        _make_writable(child)


def _check_keys(cls: type, values: Any, where: str, prefix: str) -> None:
    if not isinstance(values, Mapping):
        place = prefix.rstrip(".") or "it"
        raise ValueError(
            f"{where}: {place} must be a mapping of settings, got a {type(values).__name__}"
        )
    hints = typing.get_type_hints(cls)
    known = [field.name for field in fields(cls)]
    for key, value in values.items():
        if key not in known:
            raise ValueError(
                f"{where} has the unknown key {prefix}{key}: known are {', '.join(sorted(known))}"
            )
        _check_value_keys(hints[key], value, where, f"{prefix}{key}")


def _check_value_keys(hint: Any, value: Any, where: str, path: str) -> None:
    """Look for dataclasses inside a field's type; everything else is OmegaConf's to check."""
    inner = [hint, *typing.get_args(hint)]
    nested = next((each for each in inner if is_dataclass(each)), None)
    if nested is None or value is None:
        return
    if typing.get_origin(hint) in (None, typing.Union, types.UnionType):
        _check_keys(nested, value, where, f"{path}.")
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            _check_keys(nested, each, where, f"{path}.{index}.")
