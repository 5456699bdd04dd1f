"""Configurations as JSON, and back with their types."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Config = TypeVar("Config")


def encode(config: Any) -> dict[str, Any]:
    """The configuration, a dataclass, as a nested dict of JSON's own types."""
    return _plain(dataclasses.asdict(config))


def decode(kind: type[Config], fields: Mapping[str, Any]) -> Config:
    """The configuration of this type that :func:`encode` wrote.

    Raises:
        ValueError: a field is unknown, or of the wrong type.

    Example:
        >>> from experiments.config import Adam
        >>> decode(Adam, encode(Adam(b2=0.99))).b2
        0.99
    """
    return _typed(kind, fields)


def flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields under the names of their flags, without the dashes in front.

    Example:
        >>> flatten({"seeds": 4, "optimizer": {"learning_rate": 0.1}})
        {'seeds': 4, 'optimizer.learning-rate': 0.1}
    """
    flat = {}
    for name, value in fields.items():
        flag = prefix + name.replace("_", "-")
        flat |= flatten(value, f"{flag}.") if isinstance(value, Mapping) else {flag: value}
    return flat


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value


def _typed(kind: Any, value: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _instance(kind, value)
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_typed(each, entry) for each, entry in zip(kinds, value, strict=True))
    if origin is Literal and value in arguments:
        return value
    if origin in (Union, types.UnionType):
        return _first_that_fits(arguments, value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise ValueError(f"{value!r} is not of type {getattr(kind, '__name__', kind)}")


def _instance(kind: Any, fields: Any) -> Any:
    hints = get_type_hints(kind)
    if not isinstance(fields, Mapping) or set(fields) != set(hints):
        names = (
            ", ".join(sorted(set(hints) ^ set(fields))) if isinstance(fields, Mapping) else fields
        )
        raise ValueError(f"{kind.__name__} has other fields than those stored: {names}")
    return kind(**{name: _entry(name, hints[name], value) for name, value in fields.items()})


def _entry(name: str, kind: Any, value: Any) -> Any:
    """A field's value, and the field's name in front of what is wrong with it."""
    try:
        return _typed(kind, value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _first_that_fits(kinds: tuple[Any, ...], value: Any) -> Any:
    errors = []
    for kind in kinds:
        try:
            return _typed(kind, value)
        except ValueError as error:
            errors.append(error)
    raise errors[0]
