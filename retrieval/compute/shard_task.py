"""The task of a cluster node that makes a shard."""

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from retrieval.compute.make_shards import ShardJob
from retrieval.data.decoded_photos import UnreadableImages
from retrieval.data.formats import InputError


@dataclass(frozen=True)
class Probe:
    """A file that all nodes must see."""

    path: Path
    content: str

    def check(self) -> None:
        """Raise `InputError` if this node does not see the file."""
        with suppress(OSError, UnicodeDecodeError):
            if self.path.read_text(encoding="utf-8") == self.content:
                return
        raise InputError(
            f"the node {socket.gethostname()} does not see the files of {self.path.parent}: the "
            "nodes of --engine=ray need one disk, mounted in the same folder on each"
        )


def remote_function(root: str) -> Callable[[bytes], Any]:
    """Return the function that Ray sends to the nodes, which finds the project there by itself."""

    def run_on_node(request: bytes) -> Any:
        import pickle
        import sys

        if root not in sys.path:
            sys.path.insert(0, root)
        call, *arguments = pickle.loads(request)
        return call(*arguments)

    return run_on_node


def check_disk(probe: Probe) -> InputError | None:
    """Say on a node what is wrong with its disk."""
    try:
        probe.check()
    except InputError as error:
        return error
    return None


def run_job(probe: Probe, job: ShardJob[Any], number: int | None, origin: str) -> Any:
    """Return on a node the plan of a job, or make a shard; an error is returned, not raised."""
    try:
        probe.check()  # nodes may have joined since the driver asked all
        loaded = _loaded(job, probe)
        if number is None:
            return replace(loaded.plan)  # without what it loaded
        if loaded.plan.origin != origin:
            raise InputError(
                f"the node {socket.gethostname()} sees other files, or computes in another "
                "precision, than the first: do not change inputs meanwhile, or choose --precision"
            )
        return loaded.make(number)
    except UnreadableImages as error:
        row, reason = next(iter(error.reasons.items()))
        return InputError(
            f"{error} on the node {socket.gethostname()}, the first in row {row} ({reason}); "
            "restore them, or list those that can be read with --on_unreadable=drop and without "
            "--shards, and name that csv"
        )
    except (InputError, OSError) as error:
        return error


@lru_cache(maxsize=1)
def _loaded(job: ShardJob[Any], probe: Probe) -> ShardJob[Any]:
    """Return the first of equal jobs of one command, which keeps what it loaded."""
    return job
