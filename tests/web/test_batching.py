"""Requests share their work, one bad one fails alone, and too many are sent away."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from retrieval.web.batching import Batcher, Busy, RequestSlots
from tests.web.conftest import PAGE, App, drawn_photo


def test_tasks_that_wait_are_one_batch_in_their_order() -> None:
    go, sizes = threading.Event(), []

    def work(tasks: Sequence[int]) -> list[int]:
        go.wait(5)
        sizes.append(len(tasks))
        return [task * 10 for task in tasks]

    batcher = Batcher(work, "test", max_batch=4)
    futures = [batcher.submit(0)]
    time.sleep(0.05)  # the thread has taken the first
    futures += [batcher.submit(task) for task in range(1, 10)]
    cancelled = batcher.submit(99)
    assert cancelled.cancel()
    go.set()
    assert [future.result(5) for future in futures] == [task * 10 for task in range(10)]
    batcher.close()
    assert sizes == [1, 4, 4, 1]


def test_clients_of_a_large_batch_are_waited_for() -> None:
    go, sizes = threading.Event(), []

    def work(tasks: Sequence[int]) -> list[int]:
        go.wait(5)
        sizes.append(len(tasks))
        return list(tasks)

    batcher = Batcher(work, "test", max_batch=8)
    batcher._before = 4
    futures = []
    for task in range(4):  # one after the other, to an idle thread
        futures.append(batcher.submit(task))
        time.sleep(0.001)
    go.set()
    assert [future.result(5) for future in futures] == [0, 1, 2, 3]
    assert batcher.submit(4).result(5) == 4  # nobody follows: it is not kept waiting
    batcher.close()
    assert sizes[0] > 1 and sizes[-1] == 1 and sum(sizes) == 5


def test_an_outcome_may_be_an_error() -> None:
    calls: list[int] = []

    def work(tasks: Sequence[int]) -> list[int | Exception]:
        calls.append(len(tasks))
        return [task or ValueError("zero") for task in tasks]

    batcher = Batcher(work, "test", max_batch=8)
    with pytest.raises(ValueError, match="zero"):
        batcher.submit(0).result(5)
    assert batcher.submit(3).result(5) == 3
    batcher.close()
    assert calls == [1, 1]


def test_one_bad_task_fails_alone() -> None:
    go = threading.Event()

    def work(tasks: Sequence[int]) -> list[float]:
        go.wait(5)
        return [1 / task for task in tasks]

    batcher = Batcher(work, "test", max_batch=8)
    futures = [batcher.submit(task) for task in (1, 2, 0, 4)]
    go.set()
    with pytest.raises(ZeroDivisionError):
        futures[2].result(5)
    assert [futures[i].result(5) for i in (0, 1, 3)] == [1, 0.5, 0.25]
    batcher.close()


def test_places_are_given_back_after_errors() -> None:
    slots = RequestSlots(1)
    for _ in range(3):
        with pytest.raises(KeyError), slots.take():
            with pytest.raises(Busy), slots.take():
                pass
            raise KeyError
    assert slots.taken == 0


def test_a_full_server_says_when_to_come_again(_served: Path, app: App) -> None:
    client = app(_served, waiting=2)
    service = client.app.state.service
    engine, go = service.database.engine, threading.Event()
    embed = engine.encoder.embed
    slow = type("Slow", (), {"embed": lambda _, x: go.wait(20) and embed(x)})()
    service.database.engine = replace(engine, encoder=slow)

    def ask(_: int) -> tuple[int, str | None]:
        answer = client.post("/api/search", files={"photo": drawn_photo()})
        return answer.status_code, answer.headers.get("retry-after")

    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(ask, i) for i in range(6)]
        deadline = time.monotonic() + 15
        while sum(future.done() for future in waiting) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "requests_waiting 2.0" in client.get("/metrics").text
        page = client.get("/search?id=1", headers=PAGE)
        assert page.status_code == 503 and "try again" in page.text
        go.set()
        answers = sorted(future.result() for future in waiting)
    assert [status for status, _ in answers] == [200, 200, 503, 503, 503, 503]
    assert {after for status, after in answers if status == 503} == {"1"}
    assert ask(0) == (200, None)
