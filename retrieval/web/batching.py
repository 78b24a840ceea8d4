"""Batching of requests, with a bound on how many may wait."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, TypeVar

GAP_S = 0.005

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")
Waiting = tuple[Task, Future[Outcome]]


class Busy(Exception):
    """Too many requests wait already; try again in a moment."""


class RequestSlots:
    """Bounds how many requests are worked on, from decoding to answer. For one event loop."""

    def __init__(self, count: int) -> None:
        """Set how many requests may be inside at once."""
        self.count = count
        self.taken = 0

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a slot within the block.

        Raises:
            Busy: All slots are taken.
        """
        if self.taken >= self.count:
            raise Busy(f"{self.taken} requests wait already")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class Batcher(Generic[Task, Outcome]):
    """A thread that does all tasks that wait, together.

    A task that comes to an idle thread is done at once; those that come meanwhile are the next
    batch. After a large batch, its clients come back one after the other, and the thread waits
    for them while one follows within ``GAP_S`` of another. So one client waits for nothing, and
    many share the cost.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Task]], Sequence[Outcome | Exception]],
        name: str,
        max_batch: int,
    ) -> None:
        """Start the thread.

        Args:
            work: Does a batch: tasks in, as many outcomes out, in order. An outcome may be the
                error of its task. If it fails on a batch, each of the tasks is tried alone.
            name: Name of the thread.
            max_batch: Tasks of one batch.
        """
        self._work, self._max_batch = work, max_batch
        self._before = 1  # size of the last batch
        self._tasks: queue.SimpleQueue[Waiting[Task, Outcome] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, task: Task) -> "Future[Outcome]":
        """Submit a task; the future has its result or its error."""
        future: Future[Outcome] = Future()
        self._tasks.put((task, future))
        return future

    def close(self) -> None:
        """End the thread when the tasks before are done."""
        self._tasks.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._next()
            # A client that went away has cancelled its future.
            batch = [one for one in batch if one[1].set_running_or_notify_cancel()]
            if batch:
                self._do(batch)
                self._before = len(batch)

    def _next(self) -> tuple[list[Waiting[Task, Outcome]], bool]:
        """Wait for a task and take what else waits; False: the last one."""
        batch: list[Waiting[Task, Outcome]] = []
        one = self._tasks.get()
        while one is not None:
            batch.append(one)
            if len(batch) == self._max_batch:
                return batch, True
            try:
                is_early = len(batch) < self._before
                one = self._tasks.get(timeout=GAP_S) if is_early else self._tasks.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _do(self, batch: list[Waiting[Task, Outcome]]) -> None:
        try:
            outcomes = self._work([task for task, _ in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
            else:
                for one in batch:  # one bad task must not fail the others
                    self._do([one])
            return
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
