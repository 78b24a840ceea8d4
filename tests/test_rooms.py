"""Which module may import which."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    *("threads", "data", "compute", "model", "search", "store"),
    *("evaluation", "training", "report", "asking", "web", "cli"),
)
STAGES = [
    *(p for folder in ("compcars", "process_data") for p in ROOT.glob(f"{folder}/*.py")),
    *(ROOT / name for name in ("train.py", "build_image_db.py")),
]
STAGE_NAMES = ("process_data", "train", "build_image_db")
LIBRARY = sorted(ROOT.glob("retrieval/**/*.py"))
LOPQ = sorted(ROOT.glob("lopq/*.py"))

CONTRACT = {"data_info"}  # the commands of two data sets


def imports_of(path: Path) -> Iterator[str]:
    """Yield the names of all modules that a module imports, at its top or in a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            # A name may be a module of the package, too.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    """Return the room of a module of retrieval/, empty for the package itself."""
    parts = path.relative_to(ROOT / "retrieval").with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards(path: Path) -> None:
    room = room_of(path)
    assert not room or room in ROOMS
    allowed = ROOMS[: ROOMS.index(room) + 1] if room else ()
    if room == "cli":
        allowed = ("threads", "data", "compute")
    for name in imports_of(path):
        package, *rest = name.split(".")
        assert package not in ("compcars", *STAGE_NAMES), f"{path}: imports the stage {name}"
        if package == "retrieval":
            assert rest[0] in allowed, f"{path}: imports {name}"


@pytest.mark.parametrize("path", STAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_stage_imports_a_stage(path: Path) -> None:
    commands = {f"{p.parent.name}.{p.stem}" for p in STAGES if "def run(" in p.read_text()}
    for name in imports_of(path):
        assert name.split(".")[0] not in STAGE_NAMES, f"{path}: imports {name}"
        module = ".".join(name.split(".")[:2])
        assert module not in commands, f"{path}: imports {name}"


@pytest.mark.parametrize("path", LOPQ, ids=lambda path: path.name)
def test_lopq_imports_nothing_of_ours(path: Path) -> None:
    ours = {"retrieval", "compcars", *STAGE_NAMES}
    assert not {name.split(".")[0] for name in imports_of(path)} & ours


def test_every_module_has_a_name_of_its_own() -> None:
    paths = defaultdict(list)
    for folder in ("retrieval", "process_data", "compcars"):
        for path in ROOT.glob(f"{folder}/**/*.py"):
            paths[path.stem].append(str(path.relative_to(ROOT)))
    shared = {n: p for n, p in paths.items() if len(p) > 1 and n not in {"__init__", *CONTRACT}}
    assert not shared
