"""Make the shards of a job that are missing, in this process or on a Ray cluster."""

from pathlib import Path
from typing import Protocol, TypeVar

from tqdm import tqdm

from retrieval.data.shards import Engine


class ShardPlan(Protocol):
    """The shards of a job and the file that they are merged into."""

    @property
    def origin(self) -> str:
        """A hash of all that the shards depend on."""

    @property
    def count(self) -> int:
        """Number of shards."""

    def missing(self, only: int | None = None) -> list[int]:
        """Return the shards that are still to be made, of all or of one."""


P_co = TypeVar("P_co", bound=ShardPlan, covariant=True)


class ShardJob(Protocol[P_co]):
    """A job that makes shards; it is sent to the tasks, and each process loads equal ones once."""

    @property
    def target(self) -> Path:
        """The file that the shards are joined to."""

    @property
    def uses_gpu(self) -> bool:
        """Whether a task should get a GPU if there is one."""

    def on_node(self, count: int) -> "ShardJob[P_co]":
        """Return a copy with absolute paths and that many threads, small enough to be sent."""

    @property
    def plan(self) -> P_co:
        """The shards, and what they are made from; kept once it is known."""

    def __hash__(self) -> int: ...

    def make(self, number: int) -> None:
        """Make one shard."""


def make_shards(job: ShardJob[P_co], engine: Engine = "local", only: int | None = None) -> P_co:
    """Make the shards that are missing, and return what the job makes.

    Args:
        job: What makes them.
        engine: ``local`` or ``ray``, as tasks of a Ray cluster.
        only: Make this shard alone, without Ray; None: all that are missing.

    Raises:
        InputError: On a cluster, as `ray_tasks.make_on_cluster`.
    """
    if engine == "ray":
        from retrieval.compute import ray_tasks

        return ray_tasks.make_on_cluster(job)
    plan = job.plan
    missing = plan.missing(only)
    there = plan.count - len(missing) if only is None else 0
    total = plan.count if only is None else 1
    title = f"shards of {job.target.name}"
    for number in tqdm(missing, title, total, initial=there, unit="shard", disable=None):
        job.make(number)
    return plan
