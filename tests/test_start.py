"""Commands answer at once: what is heavy to import is imported where it is used."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.stages.test_stages import ROOT, STAGES

HEAVY = {
    *("torch", "torchvision", "timm", "pytorch_metric_learning"),
    *("lance", "lancedb", "pyarrow", "pymilvus", "ray"),
    *("pandas", "faiss", "scipy", "sklearn", "matplotlib", "jinja2", "fastapi", "uvicorn"),
}
# Each command has a process of its own, forked from one in which nothing heavy is loaded.
PROGRAM = """
import json, os, runpy, sys

import numpy  # every command may
import retrieval.cli

for expected, name, *arguments in json.loads(sys.argv[1]):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        sys.argv = [name, *arguments]
        sys.stdout = sys.stderr = open(os.devnull, "w")
        status = 0
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code or 0
        loaded = {package.partition(".")[0] for package in sys.modules}
        os.write(1, json.dumps([name, status == expected, *sorted(loaded)]).encode() + b"\\n")
        os._exit(0)
    os.waitpid(child, 0)
"""


def imported(*commands: tuple[object, ...]) -> dict[str, set[str]]:
    """Run commands (exit status, module, arguments), and return the heavy packages of each."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, json.dumps(commands)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found = {}
    for line in result.stdout.splitlines():
        name, is_expected, *packages = json.loads(line)
        assert is_expected, f"{name} ends with another status"
        found[name] = found.get(name, set()) | HEAVY & set(packages)
    assert set(found) == {name for _, name, *_ in commands}, result.stderr
    return found


# Runs files as `python FILE -h` does. How threads of numpy wait must be set before it is loaded.
HELP_OF_FILES = """
import os, runpy, sys

def look(event, arguments):
    if event == "import" and arguments[0] == "numpy" and "OMP_WAIT_POLICY" not in os.environ:
        os._exit(3)

sys.addaudithook(look)
heavy, *paths = sys.argv[1:]
for path in paths:
    if os.fork() == 0:
        sys.argv, sys.path[0] = [path, "-h"], os.path.dirname(path)
        try:
            runpy.run_path(path, run_name="__main__")
        finally:
            loaded = {name.partition(".")[0] for name in sys.modules} & {*heavy.split()}
            if loaded:
                sys.exit(f"{path} imports {loaded}")
    if os.wait()[1]:
        sys.exit(path)
"""


def test_help_of_every_file_from_any_folder_imports_nothing_heavy(tmp_path: Path) -> None:
    paths = [str(ROOT / (name.replace(".", "/") + ".py")) for name in STAGES]
    command = [sys.executable, "-W", "ignore", "-c", HELP_OF_FILES, " ".join(HEAVY), *paths]
    unset = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    result = subprocess.run(command, cwd=tmp_path, env=unset, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("--dpath") >= len(paths)


def test_wrong_usage_and_a_missing_file_import_nothing_heavy(tmp_path: Path) -> None:
    commands: list[tuple[object, ...]] = []
    for stage in ("mask_data", "mips", "nns", "contact_sheet", "report", "calibrate"):
        device = ["--device=cpu"] if stage in ("mips", "report") else []
        commands.append((2, f"process_data.{stage}", "--no_such_flag"))
        commands.append((1, f"process_data.{stage}", f"--dpath={tmp_path}", *device))
    assert not set().union(*imported(*commands).values())


def test_searches_and_what_follows_import_no_torch_and_no_pandas(pipeline: Path) -> None:
    commands: dict[str, list[str]] = {
        "mask_data": [],
        "mips": ["--device=cpu", "--k=5"],
        "nns": ["--dimension=4", "--k=5"],
        "summary": [],
        "compare": ["mips-test", "nns-test"],
        "contact_sheet": ["--rows=2", "--k=3"],
    }
    dpath = f"--dpath={pipeline}"
    found = imported(*((0, f"process_data.{n}", dpath, *flags) for n, flags in commands.items()))
    for name in commands:
        allowed = {"faiss", "scipy"} if name in ("mips", "nns") else set()
        allowed |= {"pandas", "pyarrow"} if name == "mask_data" else set()  # compares lists
        assert found[f"process_data.{name}"] <= allowed, name
