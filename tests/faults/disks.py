"""Stages on a disk that is full, or that can only be read."""

from pathlib import Path

from tests.faults import mounts, runner, world
from tests.faults.kills import Reference, half_written, home_of, inspect, reference_of
from tests.faults.results import Result, generator
from tests.faults.stages import DATA, Case
from tests.faults.world import World

ROOM = 256 << 20


def run_full(whole: World, case: Case, number: int, seed: int, folder: Path) -> Result:
    """Run a stage with less room than it needs, then look, make room and run it again."""
    name = f"full/{case.name}:{number}"
    if reason := mounts.why_not():
        return Result(name, case.name, "skipped", "", reason)
    reference = reference_of(whole, case)
    before = home_of(whole, case) / "before"
    with mounts.tmpfs(folder, ROOM):
        world.copy(before, folder)
        pages = _used(folder)
        room = int(generator(seed, name, number).integers(0, 1 + _needed(whole, case, folder)))
        mounts.resize(folder, pages + room)
        outcome = runner.run(case.command, folder)
        mounts.resize(folder, ROOM)
        why, log = outcome.fault(), outcome.err
        if not why:
            why, log = inspect(case, reference, folder)
    verdict = "violation" if why else "refused" if outcome.status else "unharmed"
    return Result(name, case.name, verdict, f"{room} bytes left on the disk", why, log)


def run_read_only(whole: World, case: Case, number: int, seed: int, folder: Path) -> Result:
    """Run a stage in a folder that cannot be written."""
    name = f"read-only/{case.name}:{number}"
    if reason := mounts.why_not():
        return Result(name, case.name, "skipped", "", reason)
    reference = reference_of(whole, case)
    with mounts.tmpfs(folder, ROOM):
        world.copy(home_of(whole, case) / "before", folder)
        mounts.make_read_only(folder, ROOM)
        outcome = runner.run(case.command, folder)
        why = outcome.fault() or _changed(reference, folder)
    if not why and not outcome.status and reference.after != reference.before:
        why = "succeeded without its files"
    verdict = "violation" if why else "refused" if outcome.status else "unharmed"
    return Result(name, case.name, verdict, "read-only folder", why, outcome.err)


def _changed(reference: Reference, folder: Path) -> str:
    return "" if world.files(folder) == reference.before else half_written(reference, {}, folder)


def _used(folder: Path) -> int:
    import os

    state = os.statvfs(folder)
    return (state.f_blocks - state.f_bfree) * state.f_frsize


def _needed(whole: World, case: Case, folder: Path) -> int:
    """Return the bytes of the files that a stage writes, and some more."""
    names = whole.writes[case.name]
    sizes = [
        (whole.folder / DATA / name).stat().st_size
        for name in names
        if (whole.folder / DATA / name).is_file()
    ]
    return sum(sizes) + 16384
