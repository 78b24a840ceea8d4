"""Command lines of the stages.

A stage is a function ``run`` and a parser. The defaults are written once, in the signature of
``run``; the parser copies them, so a stage does the same from the shell, a notebook or a test.
"""

import argparse
import errno
import inspect
import io
import logging
import math
import os
import re
import select
import sys
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args

from retrieval.compute.devices import DEVICE_HELP, PRECISION_HELP, Precision
from retrieval.data import options
from retrieval.data.formats import InputError
from retrieval.data.shards import Engine
from retrieval.threads import MOST_THREADS, computing_with

# Errors of the system, and what a person can do about them.
REMEDIES = {
    errno.ENOSPC: "make room on the disk and run the command again",
    errno.EDQUOT: "make room within the quota and run the command again",
    errno.EACCES: "make it readable and writable for this user",
    errno.EPERM: "make it readable and writable for this user",
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.EEXIST: "name a folder, not a file",
    errno.ENOTEMPTY: "another command made it in the meantime; run this one again",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "name a folder, not a file",
    errno.ENOTSUP: "name a regular file, or one that does not exist yet",
    errno.EBUSY: "another command is writing it; run this one again when that has ended",
    errno.ELOOP: "it is a link to itself; name a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "the disk failed to read or write; check it",
}


LONGEST_LINE = 1000  # characters
THREADS_HELP = "threads that compute; 0: OMP_NUM_THREADS, else all processors it may use"


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keep the lines of the description, and print each default that is not None."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.required:
            return action.help
        return super()._get_help_string(action)


def data_directory(text: str) -> Path:
    """Return the data directory that a stage's ``--dpath`` means.

    Expand ``~``, which the shell leaves alone in ``--dpath=~/ir/``. Take a relative path that
    exists only under the home directory from there.
    """
    path = user_path(text)
    under_home = Path(os.path.expanduser("~"), path)  # noqa: PTH111  Path.home fails without one
    try:
        if not path.is_absolute() and not path.exists() and under_home.is_dir():
            print(f"--dpath={text}: no such folder here, using {under_home}", file=sys.stderr)
            return under_home
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{_shortened(text)}: {error.strerror}") from None
    return path


def user_path(text: str) -> Path:
    """Return ``text`` as a path, with ``~`` expanded."""
    if not text:
        raise argparse.ArgumentTypeError("name a path; this one is empty")
    return Path(user_text(text))


def user_text(text: str) -> str:
    """Return the value of an option, which may be a path, with ``~/`` or ``~user/`` expanded.

    >>> user_text("store"), user_text("~x.png")
    ('store', '~x.png')
    """
    expanded = os.path.expanduser(text)  # noqa: PTH111  pathlib raises where this does nothing
    if expanded == text and re.match("~[^/]*/|~$", text):
        raise argparse.ArgumentTypeError(
            f"{text}: there is no such home folder; write the whole path, or ./{text}"
        )
    return expanded


def plain_text(text: str) -> str:
    """Return the value of an option that is never a path."""
    return text


def numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of a comma-separated list.

    >>> numbers("1,0.5")
    (1.0, 0.5)
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers, as in 1,0.5; got {text!r}") from None


def stage_parser(
    run: Callable[..., object], description: str | None, needs_folder: bool = True
) -> argparse.ArgumentParser:
    """Return a parser with ``--dpath`` and ``--threads``.

    Its defaults are those of ``run``'s signature. It expands ``~`` in every text but those of the
    type `plain_text`. ``--threads`` is for `execute`, unless a group of options has it.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=_HelpFormatter)
    for kind in (None, str):
        parser.register("type", kind, user_text)
    parameters = inspect.signature(run).parameters.values()
    plain = [p for p in parameters if p.default is not p.empty and not is_dataclass(p.default)]
    parser.set_defaults(**{p.name: p.default for p in plain})
    parser.add_argument(
        "--dpath",
        dest="data_dir",
        type=data_directory,
        required=needs_folder,
        help="folder of all data files; ~ is expanded, and ir means ~/ir if ./ir is absent",
    )
    groups = _option_groups(run).values()
    if not any("threads" in options.declared_options(kind) for kind in groups):
        parser.add_argument("--threads", type=int, default=0, help=THREADS_HELP)
    return parser


def add_query_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--k`` and ``--isValid``, which all evaluations share."""
    parser.add_argument("--k", type=int, help="neighbors kept for each query, and the k of map@k")
    parser.add_argument(
        "--isValid",
        dest="is_valid",
        type=_zero_or_one,
        metavar="{0,1}",
        help="queries: 1 takes the validation images, 0 the test images",
    )


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the above and the other flags that the searches of a database share."""
    add_query_arguments(parser)
    parser.add_argument(
        "--to_test",
        help="Index and Class of the queries; default: test_masked.npy, or "
        "valid_for_test.npy with --isValid=1",
    )
    parser.add_argument(
        "--test_matrix",
        help="embeddings of the queries; default: tdatabase.npy, or database.npy with --isValid=1",
    )
    parser.add_argument("--database", help="embeddings of the database; default: database.npy")
    parser.add_argument(
        "--run",
        dest="run_name",
        help="name of the evaluation, kept as evaluations/NAME-test.json or NAME-valid.json",
    )


def _zero_or_one(text: str) -> bool:
    if text not in ("0", "1"):
        raise argparse.ArgumentTypeError(f"must be 0 or 1, not {text!r}")
    return text == "1"


def add_compute_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--device`` and ``--precision`` for the stages that run a network."""
    parser.add_argument("--device", help=DEVICE_HELP)
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        help=PRECISION_HELP,
    )


def add_shard_arguments(parser: argparse.ArgumentParser, one: bool = True) -> None:
    """Add ``--shards``, ``--engine`` and, for stages that can make a single one, ``--shard``."""
    parser.add_argument("--shards", type=int, help="number of shards; 1: no sharding")
    if one:
        parser.add_argument(
            "--shard", type=int, help="make only this shard, counted from 0; default: all"
        )
    parser.add_argument(
        "--engine",
        choices=get_args(Engine),
        help="where parts are made: here, or as tasks of the Ray cluster at RAY_ADDRESS; without "
        "that variable, of one that the command starts here",
    )


def _option_groups(run: Callable[..., object]) -> dict[str, type]:
    """Return the parameters of ``run`` that hold several flags: name -> dataclass."""
    kinds = {p.name: p.annotation for p in inspect.signature(run).parameters.values()}
    types = {name: kind for name, kind in kinds.items() if isinstance(kind, type)}
    return {name: kind for name, kind in types.items() if is_dataclass(kind)}


def _check_numbers(arguments: dict[str, object]) -> None:
    """Refuse numbers that no stage can take: not finite, a negative seed or number of threads."""
    for name, value in arguments.items():
        values = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in values):
            raise InputError(f"--{name} must be finite; got {value}")
        if name in ("seed", "workers") and isinstance(value, int) and value < 0:
            raise InputError(f"--{name} must be at least 0; got {value}")


def _take_threads(arguments: dict[str, Any]) -> int | None:
    """Take ``--threads`` out of the arguments, or look it up in a group; None if left out."""
    groups = [value for value in arguments.values() if hasattr(value, "threads")]
    threads = groups[0].threads if groups else arguments.pop("threads", None)
    if threads is not None and not 0 <= threads <= MOST_THREADS:
        raise InputError(f"--threads must be from 0 to {MOST_THREADS}; got {threads}")
    return threads or None


def _shortened(text: str) -> str:
    """Return the beginning and the end of a message that quotes a very long value, in one line."""
    line = " ".join(text.split("\n"))
    if len(line) <= LONGEST_LINE:
        return line
    return f"{line[: LONGEST_LINE // 2]} ... {line[-LONGEST_LINE // 2 :]}"


def _print_any_text() -> None:
    """Escape characters that the terminal cannot encode."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_output_over() -> bool:
    """Return whether stdout takes nothing any more; what it still holds is dropped then."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):  # it is no file
        return False
    poll = select.poll()
    poll.register(output, select.POLLOUT)
    is_over = any(event & select.POLLERR for _, event in poll.poll(0))  # nobody reads the pipe
    try:
        sys.stdout.flush()
    except OSError:
        is_over = True
    if is_over:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), output)
    return is_over


def execute(
    run: Callable[..., object], parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> int:
    """Parse ``argv``, call ``run`` and return the exit status.

    0: done. 1: an error that a person can put right, in one line on stderr. argparse exits with 2
    on wrong usage. Any other error keeps its traceback.
    """
    _print_any_text()
    is_first = os.environ.get("RANK", "0") == "0"  # the others of torchrun only warn
    level = logging.INFO if is_first else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it logs which library it loads
    arguments = vars(parser.parse_args(argv))
    for name, kind in _option_groups(run).items():
        arguments[name] = kind(
            **{option: arguments.pop(option) for option in options.declared_options(kind)}
        )
    try:
        _check_numbers(arguments)
        with computing_with(_take_threads(arguments)):
            run(**arguments)
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {_shortened(str(error))}", file=sys.stderr)
        return 1
    except OSError as error:
        if _is_output_over() and error.errno == errno.EPIPE:  # as in: ... | head
            return 1
        if error.errno not in REMEDIES:
            raise
        where = f"{error.filename}: " if error.filename else ""
        said = _shortened(f"{where}{error.strerror}; {REMEDIES[error.errno]}")
        print(f"error: {said}", file=sys.stderr)
        return 1
    except UnicodeEncodeError as error:
        if "surrogates" not in error.reason:
            raise
        name = str(error.object).encode("utf-8", "backslashreplace").decode()
        print(f"error: {_shortened(name)}: this name is not UTF-8; rename it", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; files that were complete before are as they were", file=sys.stderr)
        return 130
    return 0
