"""Which module may import which."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    *("threads", "data", "compute", "model", "search", "store"),
    *("evaluation", "training", "report", "photo_search", "ingest", "web", "cli"),
)
STAGES = [
    *(p for folder in ("compcars", "process_data") for p in ROOT.glob(f"{folder}/*.py")),
    *(ROOT / name for name in ("train.py", "build_image_db.py")),
]
STAGE_NAMES = ("process_data", "train", "build_image_db")
LIBRARY = sorted(ROOT.glob("retrieval/**/*.py"))


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


def test_imports_run_downwards() -> None:
    for path in LIBRARY:
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


def test_no_stage_imports_a_stage() -> None:
    commands = {f"{p.parent.name}.{p.stem}" for p in STAGES if "def run(" in p.read_text()}
    for path in STAGES:
        for name in imports_of(path):
            assert name.split(".")[0] not in STAGE_NAMES, f"{path}: imports {name}"
            module = ".".join(name.split(".")[:2])
            assert module not in commands, f"{path}: imports {name}"
