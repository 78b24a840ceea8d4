"""Tests pass in any order: each finds the process and the files as if it were the first."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# They set threads, the environment, locks, random seeds, caches and modules of this process.
FILES = [
    *("tests/test_threads.py", "tests/compute/test_devices.py", "tests/data/test_files.py"),
    *("tests/data/test_decode.py", "tests/model/test_backbones.py", "tests/search/test_exact.py"),
    *("tests/training/test_augment.py", "tests/training/test_optim.py"),
]


def ran(*options: str) -> list[str]:
    """Run the tests of these files in one process, and return their names in order."""
    plain = ["-v", "-p", "no:xdist", "-p", "no:cacheprovider", "--durations=0"]
    command = [sys.executable, "-m", "pytest", *plain, *options, *FILES]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
    return re.findall(r"^(\S+::.*?) (?:PASSED|SKIPPED)", result.stdout, re.MULTILINE)


def test_tests_pass_in_another_order() -> None:
    drawn = ran("--order-seed=1")
    files = [name.partition("::")[0] for name in drawn]
    assert set(files) == set(FILES)
    assert list(dict.fromkeys(files)) != sorted(FILES)
    assert drawn != sorted(drawn)
