"""Commands answer at once: what is heavy to import is imported where it is used."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.stages.test_stages import ROOT, STAGES

HEAVY = {
    *("torch", "torchvision", "timm", "pytorch_metric_learning"),
    *("lance", "lancedb", "pyarrow", "pymilvus", "ray"),
    *("pandas", "faiss", "scipy", "sklearn", "matplotlib", "jinja2", "fastapi", "uvicorn"),
}
PROGRAM = """
import runpy, sys
name, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(name, run_name="__main__", alter_sys=True)
except SystemExit as exit:
    print(*{package.partition(".")[0] for package in sys.modules}, file=sys.stderr)
    raise
"""


def imported(*command: str, status: int = 0) -> set[str]:
    """Run a command, and return the heavy packages that it imported."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == status, result.stderr
    return HEAVY & set(result.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("name", STAGES)
def test_help_imports_nothing_heavy(name: str) -> None:
    assert not imported(name, "-h")


@pytest.mark.parametrize(
    "name", ["mask_data", "mips", "nns", "contact_sheet", "report", "calibrate"]
)
def test_wrong_usage_and_a_missing_file_import_nothing_heavy(name: str, tmp_path: Path) -> None:
    device = ["--device=cpu"] if name in ("mips", "report") else []
    assert not imported(f"process_data.{name}", "--no_such_flag", status=2)
    assert not imported(f"process_data.{name}", f"--dpath={tmp_path}", *device, status=1)


def test_searches_and_what_follows_import_no_torch_and_no_pandas(pipeline: Path) -> None:
    dpath = f"--dpath={pipeline}"
    commands: dict[str, list[str]] = {
        "mask_data": [],
        "mips": ["--device=cpu", "--k=5"],
        "nns": ["--dimension=4", "--k=5"],
        "summary": [],
        "compare": ["mips-test", "nns-test"],
        "contact_sheet": ["--rows=2", "--k=3"],
    }
    for name, flags in commands.items():
        allowed = {"faiss", "scipy"} if name in ("mips", "nns") else set()
        assert imported(f"process_data.{name}", dpath, *flags) <= allowed, name
