"""Stages that read damaged and hostile files."""

import shutil
from pathlib import Path

import numpy as np

from tests.faults import (  # noqa: F401  each module registers its damages
    damage_arrays,
    damage_checkpoints,
    damage_images,
    damage_texts,
    runner,
    world,
)
from tests.faults.damage import DAMAGES, MARKER, Damage, kind_of
from tests.faults.results import Result, generator
from tests.faults.stages import CASES, DATA, Case
from tests.faults.world import Files, World

# A hash of these is at hand: in a record beside them, in the file, or in what was made from them.
HASHED = {
    *("imageset.npy", "test_image.npy", "database.npy", "tdatabase.npy", "database_t.npy"),
    *("tdatabase_t.npy", "lopq.index", "para/model.ep0", "para/model.ep1"),
}
SLOW = {"train", "train (resumed)", "process_data.report", "process_data.export_onnx"}
ROTTING = {("rot", name) for name in HASHED}
# Their results tell a damaged file from a whole one, without being wrong.
TOLD = {
    ("process_data.data_info", "image"),
    ("process_data.report", "checkpoint"),
    ("compcars.data_info", "text"),
}


def readers(whole: World, kind: str) -> list[tuple[Case, list[str]]]:
    """Return the stages that read files of a kind, and the files."""
    found = []
    for case in CASES:
        reads = whole.reads.get(case.name, [])
        names = [name for name in reads if kind_of(name) == kind or (kind, name) in ROTTING]
        if kind == "image" and case.name == "process_data.data_info":  # lists, reads none
            results = whole.results.get(case.name, ({}, ""))
            names = [name for name in results[0] if name.startswith("photos/")]
        if names:
            found.append((case, names))
    return found


def run(whole: World, kind: str, number: int, seed: int, folder: Path) -> Result:
    """Damage one file in a copy of the data directory and run a stage that reads it."""
    random = generator(seed, kind, number)
    of_kind = readers(whole, kind)
    weights = np.array([0.2 if case.name in SLOW else 1.0 for case, _ in of_kind])
    case, names = of_kind[random.choice(len(of_kind), p=weights / weights.sum())]
    name = names[random.integers(0, len(names))]
    ways = DAMAGES[kind]
    damage = ways[random.integers(0, len(ways))]
    data_dir = world.copy(whole.folder, folder) / DATA
    path = data_dir / name
    shutil.copyfile(path, path.with_name("copied"))  # photos are links
    path.with_name("copied").replace(path)
    damage.apply(path, random)
    before = world.files(folder)
    outcome = runner.run(case.command, folder)
    verdict, why = judge(whole, case, damage, name, before, folder, outcome)
    what = f"{name}: {damage.name}"
    return Result(f"{kind}:{number}", case.name, verdict, what, why, outcome.err)


def judge(
    whole: World,
    case: Case,
    damage: Damage,
    name: str,
    before: Files,
    folder: Path,
    outcome: runner.Outcome,
) -> tuple[str, str]:
    """Return the verdict, and why it is a violation."""
    after = world.files(folder)
    # A resumed training does an epoch again whose checkpoint is damaged.
    writes = whole.writes[case.name] | whole.writes.get(case.command.module, set())
    fault = outcome.fault() or lost(before, after, writes)
    if any(folder.rglob(MARKER)):
        fault = "the pickle's code was executed"
    if fault:
        return "violation", fault
    if outcome.status:
        if damage.expect == "accept":
            return "violation", f"refused: {outcome.error_lines}"
        return "refused", ""
    is_named = Path(name).name in outcome.err
    if damage.expect == "accept" or is_same(whole, case, name, after, outcome):
        return "unharmed", ""
    page = folder / DATA / "report.html"
    is_shown = case.name == "process_data.report" and "cannot be shown" in page.read_text()
    is_told = is_named or is_shown or (case.name, kind_of(name)) in TOLD
    if damage.expect == "any" or is_told:
        return "other content", ""
    return "violation", "accepted in silence, with other results"


def is_same(whole: World, case: Case, name: str, after: Files, outcome: runner.Outcome) -> bool:
    """Return whether the results are those of the run that nothing disturbed."""
    expected, printed = whole.results[case.name]
    writes = whole.writes[case.name]
    if not writes:
        return outcome.out == printed
    return all(after.get(file) == expected.get(file) for file in writes if file != name)


def lost(before: Files, after: Files, writes: set[str]) -> str:
    """Say which files changed that are not the stage's to write, or were left behind."""
    changed = [name for name in before if after.get(name) != before[name]]
    strange = [name for name in changed if name not in writes]
    left = [name for name in after if name not in before and Path(name).name.startswith(".")]
    if strange:
        return f"changed or removed {strange[0]}, which it does not write"
    return f"left {left[0]} behind" if left else ""
