"""Options as dataclass fields: one declaration gives the flag, its help, default and range.

    @dataclass(frozen=True)
    class RankingOptions:
        qe: int = option(0, "neighbors that expand a query; 0 disables", at_least=0)

``add_arguments`` makes the flags, ``check`` refuses values out of range. This module imports
nothing heavy, so ``-h`` answers at once.
"""

import argparse
import math
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from types import NoneType
from typing import Any, get_args, get_type_hints

from retrieval.data.formats import InputError


@dataclass(frozen=True)
class Option:
    """The declaration of an option, beside its type.

    Attributes:
        default: Its value if it is left out.
        help: What it does, with its unit.
        above: Exclusive lower bound.
        at_least: Inclusive lower bound.
        below: Exclusive upper bound.
        at_most: Inclusive upper bound.
        group: Section of the help; None takes the caller's.
    """

    default: Any
    help: str
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    group: str | None = None

    @property
    def range(self) -> str:
        """The range in words, empty if there is none.

        >>> Option(1.0, "", above=0, at_most=1).range
        'above 0 and at most 1'
        """
        bounds = {
            "above": self.above,
            "at least": self.at_least,
            "below": self.below,
            "at most": self.at_most,
        }
        return " and ".join(
            f"{word} {value:g}" for word, value in bounds.items() if value is not None
        )

    def holds(self, value: Any) -> bool:
        """Return whether a number is finite and within the range."""
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )


def option(default: Any, help: str, **more: Any) -> Any:
    """Return a dataclass field that declares an option; ``more`` are attributes of `Option`."""
    return field(default=default, metadata={"option": Option(default, help, **more)})


def declared_options(kind: type) -> dict[str, Option]:
    """Return the options that a dataclass declares: name -> option, in their order."""
    return {f.name: f.metadata["option"] for f in fields(kind) if "option" in f.metadata}


def choices(hint: Any) -> list[str]:
    """Return the texts that a ``Literal``, or an optional one, allows; none for other types."""
    parts = [hint, *get_args(hint)]
    return [text for part in parts for text in get_args(part) if isinstance(text, str)]


def add_arguments(
    parser: argparse.ArgumentParser,
    kind: type,
    title: str | None = None,
    left_out: Any = ...,
) -> None:
    """Add a flag for each option of a dataclass.

    Args:
        parser: Gets the flags.
        kind: The dataclass.
        title: Section of the help for options without a group; None: no section.
        left_out: Value of flags that are left out; ``...``: the defaults.
    """
    hints = get_type_hints(kind)
    sections: dict[str | None, argparse._ActionsContainer] = {None: parser}
    for name, declaration in declared_options(kind).items():
        hint = hints[name]
        section = declaration.group or title
        if section not in sections:
            sections[section] = parser.add_argument_group(section)
        settings: dict[str, Any] = {"dest": name, "default": left_out, "help": declaration.help}
        if left_out is ...:
            settings["default"] = declaration.default
        elif declaration.default is not None:
            settings["help"] += f" (default: {declaration.default})"
        plain = [part for part in (hint, *get_args(hint)) if isinstance(part, type)]
        kinds = [part for part in plain if part is not NoneType]
        if kinds and kinds[0] is bool:
            settings["action"] = argparse.BooleanOptionalAction
        elif texts := choices(hint):
            settings["choices"] = texts
        else:
            settings["type"] = kinds[0]
        sections[section].add_argument(f"--{name}", **settings)


def flat(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return a stage's arguments as they are recorded: groups of options one by one.

    Args:
        arguments: Name -> value, of the arguments of ``run``; the data directory is left out.

    >>> flat({"data_dir": "ir", "k": 5})
    {'k': 5}
    """
    recorded: dict[str, Any] = {}
    for name, value in arguments.items():
        if is_dataclass(value) and not isinstance(value, type):
            recorded |= asdict(value)
        elif name != "data_dir":
            recorded[name] = value
    return recorded


def check(config: Any) -> None:
    """Refuse values that are out of range or not among the choices; None is accepted.

    Raises:
        InputError: Names the flag, the range and the value.
    """
    hints = get_type_hints(type(config))
    for name, declaration in declared_options(type(config)).items():
        value, texts = getattr(config, name), choices(hints[name])
        if value is None:
            continue
        if texts and value not in texts:
            raise InputError(f"--{name} must be one of {', '.join(texts)}; got {value}")
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and not declaration.holds(value):
            raise InputError(f"--{name} must be {declaration.range or 'finite'}; got {value}")
