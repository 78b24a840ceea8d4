"""Measured processes, turns, and the folders of results."""

import sys
from pathlib import Path

import pytest

from benchmarks import measured_process, results, timing
from benchmarks.search import exact


def test_a_process_is_pinned_and_its_memory_and_failure_are_reported() -> None:
    child = "import time; x = bytearray(90 << 20); time.sleep(0.5)"
    code = f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); "
    code += "print(os.environ['OMP_NUM_THREADS'])"
    usage = measured_process.run([sys.executable, "-c", code], threads=1)
    assert usage.output.strip() == "1"
    assert 90 << 20 < usage.peak_bytes < 200 << 20  # that of the child counts
    assert usage.seconds > 0.5
    with pytest.raises(RuntimeError, match="status 3"):
        measured_process.run([sys.executable, "-c", "raise SystemExit(3)"], threads=1)


def test_a_function_is_called_in_another_process() -> None:
    found, usage = measured_process.call(timing.spread, 1, values=[1.0, 2.0, 3.0])
    assert found == 100
    assert usage.peak_bytes > 1 << 20


def test_turns_alternate_and_the_first_does_not_count() -> None:
    order: list[str] = []

    def add(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = timing.by_turns({name: lambda n=name: add(n) for name in "ab"}, repeats=2)
    assert "".join(order) == "baabba"
    assert found == {"a": [3.0, 6.0], "b": [4.0, 5.0]}


def test_a_date_and_a_machine_have_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = {"machine": "Intel(R) Xeon(R) CPU @ 2.8GHz", "cores": 2, "memory_gb": 25}
    monkeypatch.setattr(results, "machine", lambda: about)
    options = exact.make_parser().parse_args([])
    run = results.Run("x", options, tmp_path)
    assert run.folder.name == f"{run.name[:10]}-intel-xeon-2-cores"
    run.name = run.record["run"] = "2000-01-01T00:00:00"
    run.publish("x", [{"images_per_s": 1.0, "gone": "a"}])
    newer = results.Run("x", options, tmp_path)
    newer.publish("x", [{"images_per_s": 12345.6, "new": 0.5}])
    assert newer.folder == run.folder
    assert results.latest(tmp_path, "x").drop(columns="run").to_dict("records") == [
        {"images_per_s": 12346.0, "new": 0.5}
    ]
    assert results.cores_of(tmp_path, newer.name) == measured_process.cores()
    monkeypatch.setattr(results, "machine", lambda: about | {"memory_gb": 50})
    assert results.Run("x", options, tmp_path).folder.name.endswith("-2-cores-2")
