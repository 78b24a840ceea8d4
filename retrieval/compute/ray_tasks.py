"""Shards made by the tasks of a Ray cluster, which read and write the files of a shared disk.

Only the numbers of shards go through Ray. A task whose process or node is lost is started again
on another one; a shard is a whole file or none, so nothing else has to be repaired.
"""

import logging
import os
import pickle
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

from retrieval.data import files
from retrieval.data.formats import InputError
from retrieval.data.photo_array import UnreadableImages

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]  # the project, in the same folder on all nodes
RETRIES = 5  # times that a lost task is started again
PATIENCE_S = 1.0  # between two looks at the head of the cluster
MISSED_LOOKS = 5  # of the head, before it counts as lost
STORE_BYTES = 80_000_000  # Ray's object store, nearly unused here; Ray takes no less


class LostTask(InputError):
    """The process or the node of a task was lost too often."""


class ShardPlan(Protocol):
    """What a job is about to make."""

    @property
    def origin(self) -> str:
        """A hash of all that the shards depend on."""

    @property
    def count(self) -> int:
        """Number of shards."""

    def missing(self) -> list[int]:
        """Return the shards that are still to be made."""


P_co = TypeVar("P_co", bound=ShardPlan, covariant=True)


class ShardJob(Protocol[P_co]):
    """What makes shards; it is sent to the tasks, and equal ones are loaded once in a process."""

    @property
    def target(self) -> Path:
        """The file that the shards are joined to."""

    @property
    def uses_gpu(self) -> bool:
        """Whether a task should have a GPU if there is one."""

    def with_threads(self, count: int) -> "ShardJob[P_co]":
        """Return a copy with a number of threads, small enough to be sent."""

    @property
    def plan(self) -> P_co:
        """The shards, and what they are made from; kept once it is known."""

    def __hash__(self) -> int: ...

    def make(self, number: int) -> None:
        """Make one shard."""


def make_shards(job: ShardJob[P_co]) -> P_co:
    """Make all shards that are missing on the Ray cluster, and return their plan.

    The plan is that of a node of the cluster, so this machine needs no network and no GPU.

    Raises:
        InputError: Ray is not installed, the disk is not shared, the cluster or too many of its
            nodes were lost, or a task raised it.
        OSError: A task could not write.
    """
    target = job.target.absolute()
    with _connected() as address, _probe(target) as probe:
        nodes = _Nodes(address, job.uses_gpu)
        job = job.with_threads(nodes.n_cpu)
        nodes.check_disk(probe)
        (plan,) = (found for _, found in nodes.results(probe, job, [None]))
        numbers = plan.missing()
        shards = nodes.results(probe, job, numbers, plan.origin)
        there = plan.count - len(numbers)
        title, total = f"shards of {target.name}", plan.count
        for _ in tqdm(shards, title, total, initial=there, unit="shard", disable=None):
            pass
    return plan


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


@contextmanager
def _probe(target: Path) -> Iterator[Probe]:
    """Write a file with a random name and a random content beside ``target``."""
    with files.scratch(target) as path:
        probe = Probe(path, secrets.token_hex(16))
        path.write_text(probe.content, encoding="utf-8")
        yield probe


@contextmanager
def _connected() -> Iterator[str]:
    """Connect to a cluster or start one; yield the address of its head, ``host:port``.

    A connection that exists, as a notebook may have made it, is used and stays.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InputError(
            "--engine=ray needs Ray; install it with: pip install -r requirements-ray.txt"
        ) from None
    if ray.is_initialized():
        yield ray.get_runtime_context().gcs_address
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    named = os.environ.get("RAY_ADDRESS") or "local"
    if named == "local":
        log.info("RAY_ADDRESS names no cluster: starting one on this machine")
        ray.init(address=named, include_dashboard=False, object_store_memory=STORE_BYTES, **quiet)
    else:
        try:
            if named != "auto" and not _answers(named):
                raise ConnectionError
            ray.init(address=named, **quiet)
        except ConnectionError:
            raise InputError(
                f"no Ray cluster answers at RAY_ADDRESS={named}; start one with: ray start --head"
            ) from None
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


def _answers(address: str) -> bool:
    """Return whether something listens at ``host:port``; Ray itself would wait for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError):
        return False
    return True


class _Nodes:
    """The nodes of the cluster that run tasks.

    Attributes:
        n_cpu: Cores of a task.
    """

    def __init__(self, address: str, uses_gpu: bool) -> None:
        import ray

        self.address = address
        nodes = [node for node in ray.nodes() if node["Alive"]]
        if uses_gpu and any(node["Resources"].get("GPU") for node in nodes):
            nodes = [node for node in nodes if node["Resources"].get("GPU")]
        else:
            uses_gpu = False
        nodes = [node for node in nodes if node["Resources"].get("CPU", 0) >= 1]
        if not nodes:
            raise InputError(f"the Ray cluster at {address} has no node with a core for tasks")
        self.n_cpu = 1
        if uses_gpu:  # the cores decode for the GPUs beside them
            self.n_cpu = min(_cores_per_gpu(node["Resources"]) for node in nodes)
        self._ids = [node["NodeID"] for node in nodes]
        self._task = ray.remote(_task(str(ROOT)))
        self._share = {"num_cpus": self.n_cpu, "num_gpus": int(uses_gpu), "max_retries": RETRIES}

    def check_disk(self, probe: Probe) -> None:
        """Raise `InputError` if a node does not see the files of this one."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        request = pickle.dumps((_check, probe))
        refs = []
        for node in self._ids:
            there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
            on_node = self._task.options(num_cpus=0, num_gpus=0, scheduling_strategy=there)
            refs.append(on_node.remote(request))
        for ref in refs:
            with suppress(LostTask):  # a node that died has no say
                list(self._finished([ref]))

    def results(
        self, probe: Probe, job: ShardJob[Any], numbers: Sequence[int | None], origin: str = ""
    ) -> Iterator[tuple[int, Any]]:
        """Yield what a task returns for each number, as they end, with its position."""
        requests = [pickle.dumps((_run, probe, job, number, origin)) for number in numbers]
        return self._finished(
            [self._task.options(**self._share).remote(request) for request in requests]
        )

    def _finished(self, refs: list[Any]) -> Iterator[tuple[int, Any]]:
        """Yield results of tasks as they end; raise what one of them returned as its error."""
        import ray

        places, waiting = {ref: place for place, ref in enumerate(refs)}, list(refs)
        n_missed = 0
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=PATIENCE_S)
            n_missed = 0 if done or _answers(self.address) else n_missed + 1
            if n_missed == MISSED_LOOKS:
                raise InputError(
                    f"the Ray cluster at {self.address} lost its head: nothing was joined; run "
                    "again when there is a cluster, and the shards that are there are kept"
                )
            for ref in done:
                yield places[ref], self._value(ref)

    def _value(self, ref: Any) -> Any:
        """Return the result of a task that has ended."""
        import ray
        from ray import exceptions

        try:
            found = ray.get(ref)
        except (exceptions.WorkerCrashedError, exceptions.NodeDiedError) as error:
            lost = type(error).__name__
        except (exceptions.OutOfMemoryError, exceptions.TaskUnschedulableError) as error:
            lost = type(error).__name__
        except exceptions.RayTaskError as error:
            if not isinstance(error.cause, ImportError):
                raise
            raise InputError(
                f"a node cannot import what this machine can ({error.cause}): install the same "
                f"packages there, and put the project on the shared disk, here {ROOT}"
            ) from None
        else:
            if isinstance(found, Exception):
                raise found
            return found
        raise LostTask(
            f"Ray lost the process or the node of a task {RETRIES + 1} times ({lost}): nothing was "
            "joined; run again, and the shards that are there are kept"
        )


def _cores_per_gpu(resources: dict[str, float]) -> int:
    return max(1, int(resources["CPU"] // max(1, resources["GPU"])))


def _task(root: str) -> Callable[[bytes], Any]:
    """Return the function that Ray sends to the nodes, which finds the project there by itself."""

    def run_on_node(request: bytes) -> Any:
        import pickle
        import sys

        if root not in sys.path:
            sys.path.insert(0, root)
        call, *arguments = pickle.loads(request)
        return call(*arguments)

    return run_on_node


def _check(probe: Probe) -> InputError | None:
    """Say on a node what is wrong with its disk."""
    try:
        probe.check()
    except InputError as error:
        return error
    return None


def _run(probe: Probe, job: ShardJob[Any], number: int | None, origin: str) -> Any:
    """Return on a node the plan of a job, or make a shard; an error is returned, not raised."""
    try:
        probe.check()  # nodes may have joined since the driver asked all
        loaded = _loaded(job, probe)
        if number is None:
            return loaded.plan
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
