"""Shards made by the tasks of a Ray cluster, which read and write the files of a shared disk.

Only the numbers of shards go through Ray. A task whose process or node is lost is started again
on another one; a shard is a whole file or none, so nothing else has to be repaired.
"""

import logging
import os
import pickle
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from retrieval.compute.make_shards import P_co, ShardJob
from retrieval.compute.shard_task import Probe, check_disk, remote_function, run_job
from retrieval.data import files
from retrieval.data.formats import InputError

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]  # the project, in the same folder on all nodes
RETRIES = 5  # times that a lost task is started again
PATIENCE_S = 1.0  # between two looks at the head of the cluster
MISSED_LOOKS = 5  # of the head, before it counts as lost
STORE_BYTES = 80_000_000  # Ray's object store, nearly unused here; Ray takes no less


class LostTask(InputError):
    """The process or the node of a task was lost too often."""


def make_on_cluster(job: ShardJob[P_co]) -> P_co:
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
        job = job.on_node(nodes.n_cpu)
        nodes.check_disk(probe)
        (plan,) = (found for _, found in nodes.results(probe, job, [None]))
        numbers = plan.missing()
        shards = nodes.results(probe, job, numbers, plan.origin)
        there = plan.count - len(numbers)
        title, total = f"shards of {target.name}", plan.count
        for _ in tqdm(shards, title, total, initial=there, unit="shard", disable=None):
            pass
    return plan


@contextmanager
def _probe(target: Path) -> Iterator[Probe]:
    """Write a file with a random name and a random content beside ``target``."""
    with files.scratch(target) as path:
        probe = Probe(path, secrets.token_hex(16))
        path.write_text(probe.content, encoding="utf-8")
        yield probe


USAGE = "RAY_USAGE_STATS_ENABLED"  # Ray reports to its makers unless this is 0


@contextmanager
def _connected() -> Iterator[str]:
    """Connect to a cluster or start one; yield the address of its head, ``host:port``.

    A connection that exists, as a notebook may have made it, is used and stays.
    """
    try:
        import ray
    except ImportError:
        raise InputError(
            "--engine=ray needs Ray; install it with: pip install -r requirements-ray.txt"
        ) from None
    if ray.is_initialized():
        yield ray.get_runtime_context().gcs_address
        return
    with _environment(USAGE, "0"):
        yield from _own_connection(ray)


def _own_connection(ray: Any) -> Iterator[str]:
    """Connect or start, yield the address, and disconnect."""
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


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for a while, unless the user has set it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)


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
        self._task = ray.remote(remote_function(str(ROOT)))
        self._share = {"num_cpus": self.n_cpu, "num_gpus": int(uses_gpu), "max_retries": RETRIES}

    def check_disk(self, probe: Probe) -> None:
        """Raise `InputError` if a node does not see the files of this one."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        request = pickle.dumps((check_disk, probe))
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
        requests = [pickle.dumps((run_job, probe, job, number, origin)) for number in numbers]
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
