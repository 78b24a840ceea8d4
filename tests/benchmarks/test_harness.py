"""What the benchmarks share: processes that are watched, turns, and results that are kept."""

import os
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import bench_mips, harness, processes, results


def test_a_process_is_pinned_watched_and_its_failure_told() -> None:
    code = "import os, time; x = bytearray(90 << 20); time.sleep(0.3); "
    code += "print(os.environ['OMP_NUM_THREADS'])"
    usage = processes.run([sys.executable, "-c", code], threads=1)
    assert usage.output.strip() == "1"
    assert 90 << 20 < usage.peak_bytes < 200 << 20
    assert usage.seconds > 0.3
    with pytest.raises(RuntimeError, match="status 3"):
        processes.run([sys.executable, "-c", "raise SystemExit(3)"], threads=1)


def test_memory_of_children_counts() -> None:
    child = "import time; x = bytearray(90 << 20); time.sleep(0.5)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    usage = processes.run([sys.executable, "-c", code], threads=1)
    assert usage.peak_bytes > 90 << 20


def test_a_function_is_called_in_another_process() -> None:
    found, usage = processes.call(harness.spread, 1, values=[1.0, 2.0, 3.0])
    assert found == 100
    assert usage.peak_bytes > 1 << 20
    assert f"{os.getpid()}" not in usage.output


def test_turns_alternate_and_the_first_does_not_count() -> None:
    order: list[str] = []

    def add(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = harness.by_turns({name: lambda n=name: add(n) for name in "ab"}, repeats=2)
    assert "".join(order) == "baabba"
    assert found == {"a": [3.0, 6.0], "b": [4.0, 5.0]}


def test_results_are_appended_and_the_table_is_that_of_the_newest_run(tmp_path: Path) -> None:
    readme, folder = tmp_path / "README.md", tmp_path / "results"
    readme.write_text("before\n<!-- x -->\nold\n<!-- end -->\nafter\n<!-- y -->\n<!-- end -->\n")
    options = bench_mips.make_parser().parse_args([])
    run = results.Run("x", options, folder)
    run.name = run.record["run"] = "2000-01-01T00:00:00"
    run.publish("x", [{"images_per_s": 1.0, "gone": "a"}])
    results.Run("x", options, folder).publish("x", [{"images_per_s": 12345.6, "new": 0.5}])
    assert len(pd.read_csv(folder / "x.csv")) == 2
    assert len(pd.read_csv(folder / "runs.csv")) == 2
    text = readme.read_text()
    assert text.startswith("before\n<!-- x -->\n| images/s | new |\n|---|---|\n| 12,346 | 0.5 |\n")
    assert text.endswith("<!-- end -->\nafter\n<!-- y -->\n<!-- end -->\n")
    assert "old" not in text
