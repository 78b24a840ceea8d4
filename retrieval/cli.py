"""What the command lines of all stages share.

A stage is a function ``run`` and a parser. The defaults are written once, in the signature of
``run``; the parser copies them, so a stage does the same from the shell, a notebook or a test.
"""

import argparse
import errno
import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from pathlib import Path

from retrieval.data import options
from retrieval.data.formats import InputError
from retrieval.evaluation.records import BASELINES

log = logging.getLogger(__name__)

# What the system may refuse, with what a person can do about it.
REMEDIES = {
    errno.ENOSPC: "make room on the disk and run the command again",
    errno.EDQUOT: "make room within the quota and run the command again",
    errno.EACCES: "make it readable and writable for this user",
    errno.EPERM: "make it readable and writable for this user",
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "name a folder, not a file",
    errno.EIO: "the disk failed to read or write; check it",
}


DEVICE_HELP = "auto, cpu, cuda or cuda:n"


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keep the lines of the description, and print each default that is not None."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.required:
            return action.help
        return super()._get_help_string(action)


def data_directory(text: str) -> Path:
    """Return the data directory that ``text`` means: a stage's ``--dpath``.

    ``~`` is expanded, as the shell leaves it alone in ``--dpath=~/ir/``. A relative path that
    does not exist here but does under the home directory means the latter.
    """
    path = Path(text).expanduser()
    under_home = Path.home() / path
    if not path.is_absolute() and not path.exists() and under_home.is_dir():
        print(f"--dpath={text}: no such folder here, using {under_home}", file=sys.stderr)
        return under_home
    return path


def user_path(text: str) -> Path:
    """Return ``text`` as a path, with ``~`` expanded."""
    return Path(text).expanduser()


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
    """Return a parser with ``--dpath``, whose defaults are those of ``run``'s signature."""
    parser = argparse.ArgumentParser(description=description, formatter_class=_HelpFormatter)
    parameters = inspect.signature(run).parameters.values()
    plain = [p for p in parameters if p.default is not p.empty and not is_dataclass(p.default)]
    parser.set_defaults(**{p.name: p.default for p in plain})
    parser.add_argument(
        "--dpath",
        dest="data_dir",
        type=data_directory,
        required=needs_folder,
        help="folder of all data files; ~ is expanded, and ir means ~/ir where ./ir is absent",
    )
    return parser


def add_query_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what all evaluations share: which queries, and the k."""
    parser.add_argument("--k", type=int, help="neighbors kept of each query, and the k of map@k")
    parser.add_argument(
        "--isValid",
        dest="is_valid",
        type=_zero_or_one,
        metavar="{0,1}",
        help="1: the queries are the validation images, 0: the test images",
    )


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the above, and what the searches of a database share."""
    add_query_arguments(parser)
    parser.add_argument("--to_test", help="Index and Class of the queries; left out: the usual")
    parser.add_argument("--test_matrix", help="embeddings of the queries; left out: the usual")
    parser.add_argument("--database", help="embeddings of the database; left out: the usual")
    parser.add_argument(
        "--run",
        dest="run_name",
        type=_plain_name,
        help="the evaluation is kept under this name, as evaluations/NAME-test.json",
    )


def add_refine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what both searches take of ``refine.Refinement``."""
    add = parser.add_argument_group("ranking").add_argument
    add("--qe", type=int, help="expand each query with its first so many results; 0: off")
    add("--qe_alpha", type=float, help="power of the similarities that weigh the neighbors")
    add("--dba", type=int, help="expand each database image with so many neighbors; 0: off")
    add("--rerank_kr", type=int, help="put so many results in the order of their neighbors; 0: off")
    add("--kr_k1", type=int, help="of --rerank_kr: neighbors that may be reciprocal")
    add("--kr_k2", type=int, help="of --rerank_kr: images whose encodings are averaged")
    add("--kr_weight", type=float, help="of --rerank_kr: weight of the plain distance, 0 to 1")


def _plain_name(text: str) -> str:
    if not re.fullmatch(r"[\w.+-]+", text):
        raise argparse.ArgumentTypeError(f"must be letters, digits and ._+- only; got {text!r}")
    if text in BASELINES:
        raise argparse.ArgumentTypeError(f"{text!r} is the name of a baseline; take another")
    return text


def _zero_or_one(text: str) -> bool:
    if text not in ("0", "1"):
        raise argparse.ArgumentTypeError(f"must be 0 or 1, not {text!r}")
    return text == "1"


def add_compute_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--device`` and ``--precision``, for the stages that run a network."""
    parser.add_argument("--device", help=DEVICE_HELP)
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),  # as devices.Precision, without torch
        help="of the convolutions; auto: bfloat16 where native, float16 on GPUs of capability 7.x",
    )


def _option_groups(run: Callable[..., object]) -> dict[str, type]:
    """Return the parameters of ``run`` that take several flags at once: name -> dataclass."""
    kinds = {p.name: p.annotation for p in inspect.signature(run).parameters.values()}
    types = {name: kind for name, kind in kinds.items() if isinstance(kind, type)}
    return {name: kind for name, kind in types.items() if is_dataclass(kind)}


def execute(
    run: Callable[..., object], parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> int:
    """Parse ``argv``, call ``run`` and return the exit status.

    0: done. 1: something a person can put right, said in one line on stderr. argparse itself
    exits with 2 on wrong usage; anything unforeseen keeps its traceback.
    """
    is_first = os.environ.get("RANK", "0") == "0"  # the others of torchrun only warn
    level = logging.INFO if is_first else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    arguments = vars(parser.parse_args(argv))
    for name, kind in _option_groups(run).items():
        arguments[name] = kind(
            **{option: arguments.pop(option) for option in options.declared(kind)}
        )
    try:
        run(**arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror}; {REMEDIES[error.errno]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; files that were complete before are as they were", file=sys.stderr)
        return 130
    return 0
