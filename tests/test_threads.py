"""How many threads compute, and that a command gives the process back as it found it."""

import os
import time
from pathlib import Path

import faiss
import numpy as np
import pytest
import threadpoolctl
import torch

from retrieval import threads
from tests.process_state import process_state


def test_worker_threads_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.worker_threads() == threads.named_threads() == 3
    for value in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert threads.named_threads() is None
        assert 1 <= threads.worker_threads() <= (os.cpu_count() or 1)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_quotas_of_all_control_groups_above_count(tmp_path: Path) -> None:
    groups = tmp_path / "sys/fs/cgroup"
    assert threads.cpu_quota(tmp_path / "none") == float("inf")

    second = tmp_path / "v2"
    write(second / "proc/self/cgroup", "0::/jobs/mine\n")
    write(second / "sys/fs/cgroup/jobs/mine/cpu.max", "max 100000\n")
    write(second / "sys/fs/cgroup/jobs/cpu.max", "250000 100000\n")
    assert threads.cpu_quota(second) == 2.5

    # A container of version 1: the path is that of the host, the files are at the top.
    write(tmp_path / "proc/self/cgroup", "4:memory:/a\n3:cpu,cpuacct:/docker/1f\n0::/\n")
    write(groups / "cpu/cpu.cfs_quota_us", "150000\n")
    write(groups / "cpu/cpu.cfs_period_us", "50000\n")
    assert threads.cpu_quota(tmp_path) == 3
    write(tmp_path / "v1/proc/self/cgroup", "3:cpu,cpuacct:/a\n")
    write(tmp_path / "v1/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n")
    assert threads.cpu_quota(tmp_path / "v1") == float("inf")


def test_a_quota_bounds_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cpu_quota", lambda: 1.5)
    assert threads.usable_processors() == 1
    monkeypatch.setattr(threads, "cpu_quota", lambda: 0.2)
    assert threads.usable_processors() == 1


def test_a_command_sets_only_what_the_user_has_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (*threads.WAITING, "OMP_NUM_THREADS")
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with monkeypatch.context() as patched:
        patched.setattr(threads, "usable_processors", lambda: 0)  # fewer than the affinity
        threads.prepare_command()
    assert {name: os.environ[name] for name in threads.WAITING} == threads.WAITING
    assert os.environ["OMP_NUM_THREADS"] == "0"

    for name in names:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    threads.prepare_command()
    assert not {"GOMP_SPINCOUNT", "OPENBLAS_THREAD_TIMEOUT"} & os.environ.keys()


def test_all_libraries_compute_with_the_threads_of_a_command() -> None:
    before = process_state()
    np.ones(1)
    with threads.computing_with(3):
        assert torch.get_num_threads() == faiss.omp_get_max_threads() == 3
        assert threads.worker_threads() == threads.product_threads() == 3
        blas = threadpoolctl.ThreadpoolController().select(user_api="blas").info()
        assert {library["num_threads"] for library in blas} == {1}
        with threads.computing_with(2):
            assert torch.get_num_threads() == threads.worker_threads() == 2
        assert torch.get_num_threads() == threads.worker_threads() == 3
    assert process_state() == before
    assert threads.product_threads() == 1
    with pytest.raises(ZeroDivisionError), threads.computing_with(2):
        1 / 0  # noqa: B018
    assert process_state() == before


def test_a_busy_processor_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([{0: (10, 20), 1: (10, 20)}, {0: (10, 30), 1: (19, 30)}])
    monkeypatch.setattr(threads, "_idle_and_total", lambda: next(ticks))
    monkeypatch.setattr(threads, "_affinity", lambda: {0, 1})
    monkeypatch.setattr(threads, "cpu_quota", lambda: 8)
    assert threads.free_processors() == 1


def test_free_processors_are_counted_here() -> None:
    started = time.monotonic()
    assert 0 <= threads.free_processors() <= threads.usable_processors()
    assert time.monotonic() - started >= threads.MEASURED_S


@pytest.mark.parametrize(
    ("free", "seconds", "expected", "tried"),
    [
        (4, {}, 4, []),  # nothing to measure
        (3, {4: 4.0, 3: 1.0, 1: 3.0}, 3, [4, 3, 1]),
        (0, {4: 4.0, 1: 3.0}, 1, [4, 1]),
        (3, {4: 1.05, 3: 1.0, 1: 3.0}, 4, [4, 3, 1]),  # not worth another number
    ],
)
def test_the_fastest_number_is_measured_where_a_processor_is_busy(
    free: int,
    seconds: dict[int, float],
    expected: int,
    tried: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(threads, "usable_processors", lambda: 4)
    monkeypatch.setattr(threads, "free_processors", lambda: free)
    asked: list[int] = []

    def measure(count: int) -> float:
        asked.append(count)
        return seconds[count]

    assert threads.fastest_threads(measure) == expected
    assert asked == tried
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.fastest_threads(measure) == 3
    assert asked == tried
