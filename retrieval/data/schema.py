"""Validate values read from JSON against an expected form."""

from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, get_args, get_origin

Form = Any  # a type, list[...], dict[str, ...], a union, a Literal, or a mapping of required keys


def fits(value: object, form: Form) -> bool:
    """Return whether a value has a form.

    Args:
        value: Of JSON: text, number, truth value, None, list or dict.
        form: A type; ``list[T]``; ``dict[str, T]``; ``A | B``; a ``Literal``; or a dict of the keys
            that must be there with their forms; a key that ends in ``?`` may be missing. Other keys
            may be there, with the form of the key ``*`` if there is one.

    >>> fits({"3": [0, 1]}, dict[str, list[int]]), fits([0, True], list[int])
    (True, False)
    >>> fits({"index": "a.csv", "seed": 7}, {"index": str}), fits({}, {"index": str})
    (True, False)
    """
    if isinstance(form, Mapping):
        return isinstance(value, dict) and _keys_fit(value, form)
    origin, parts = get_origin(form), get_args(form)
    if origin is list:
        return isinstance(value, list) and all(fits(item, parts[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            isinstance(key, str) and fits(item, parts[1]) for key, item in value.items()
        )
    if isinstance(form, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if form is Any:
        return True
    if form is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, form) and (form is bool or not isinstance(value, bool))


def _keys_fit(value: dict[str, object], form: Mapping[str, Form]) -> bool:
    known = {key.rstrip("?"): part for key, part in form.items() if key != "*"}
    is_whole = all(key in value for key in form if key != "*" and not key.endswith("?"))
    others = form.get("*", Any)
    return is_whole and all(fits(item, known.get(key, others)) for key, item in value.items())
