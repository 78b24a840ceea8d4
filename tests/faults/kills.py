"""Stages that are killed, at every change of the folder and at random moments.

A change is a call of ``os`` that renames, links, removes or flushes: before one and after it, the
folder looks different to the next command.
"""

import os
import pickle
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import runner, world
from tests.faults.results import Result, generator
from tests.faults.stages import DATA, Case, Command
from tests.faults.world import Files, World

CHANGES = ("replace", "rename", "link", "symlink", "unlink", "remove", "fsync", "mkdir", "rmdir")

# They show several evaluations, each with its own record: one may be new and another old.
PAGES = ("process_data.report", "process_data.summary")


@dataclass
class Reading:
    """What a reader made of a folder.

    Attributes:
        out: What it printed.
        written: Names of the files that it changed.
        after: All files afterwards.
    """

    out: str
    written: set[str]
    after: Files

    def equals(self, other: "Reading") -> bool:
        """Return whether what either of the two wrote is the same after both."""
        names = self.written | other.written
        return self.out == other.out and all(
            self.after.get(name) == other.after.get(name) for name in names
        )


@dataclass
class Reference:
    """The folder before a stage and after it, and what its readers make of both.

    Attributes:
        before: Files of the folder before the stage ran; the folder itself is kept on disk.
        after: Files after a run that was not killed.
        changes: Calls that change the folder, in that run.
        seconds: How long it took.
        readings: Reader -> what it printed and wrote, from the old files and from the new ones;
            nothing for pages, which are not compared.
    """

    before: Files
    after: Files = field(default_factory=dict)
    changes: int = 0
    seconds: float = 0.0
    readings: list[list[Reading | None]] = field(default_factory=list)


def prepare(whole: World, case: Case) -> None:
    """Make the reference of a case, and keep it on disk for all workers."""
    home = home_of(whole, case)
    folder = world.copy(whole.folder, home / "before")
    for command in case.before:
        world.succeed(command, folder)
    if case.name == "compcars.sample":
        shutil.rmtree(folder / DATA)
    elif not case.before and case.is_built:
        for name in whole.writes[case.name]:
            (folder / DATA / name).unlink(missing_ok=True)
    reference = Reference(world.files(folder))
    run = world.copy(folder, home / "run")
    log = home / "changes"
    outcome = world.succeed(case.command, run, lambda: _count(log))
    reference.after, reference.seconds = world.files(run), outcome.seconds
    reference.changes = len(log.read_text())
    for reader in case.readers:
        compared = () if reader.text.startswith(PAGES) else (folder, run)
        states = (world.copy(source, home / "read") for source in compared)
        reference.readings.append([_reading(reader, state)[0] for state in states])
    for name in ("run", "read"):
        shutil.rmtree(home / name, ignore_errors=True)
    (home / "reference").write_bytes(pickle.dumps(reference))


def run(whole: World, case: Case, number: int, seed: int, folder: Path) -> Result:
    """Kill a stage, look at what is there, let its readers look, and run it again."""
    home = home_of(whole, case)
    reference = reference_of(whole, case)
    name = f"kill/{case.name}:{number}"
    world.copy(home / "before", folder)
    if number < 2 * reference.changes:
        what = f"killed {'after' if number % 2 else 'before'} change {number // 2}"
        _killed_at(case.command, folder, number // 2, bool(number % 2))
    else:
        moment = generator(seed, name, number).uniform(0, reference.seconds)
        what = f"killed after {moment:.3f} s"
        _killed_after(case.command, folder, moment)
    why, log = inspect(case, reference, folder)
    return Result(name, case.name, "violation" if why else "unharmed", what, why, log)


def reference_of(whole: World, case: Case) -> Reference:
    """Return what ``prepare`` kept."""
    kept: Reference = pickle.loads((home_of(whole, case) / "reference").read_bytes())
    return kept


def home_of(whole: World, case: Case) -> Path:
    """Return the folder of a case's reference; ``before`` in it is the folder before the stage."""
    home = whole.root / "kills" / case.name.replace(" ", "-")
    home.mkdir(parents=True, exist_ok=True)
    return home


def _killed_at(command: Command, folder: Path, change: int, is_after: bool) -> None:
    runner.run(command, folder, 120, lambda: _patch(_killer(change, is_after)))


def _killed_after(command: Command, folder: Path, seconds: float) -> None:
    begin = time.monotonic()
    pid = runner.start(command, folder, 120)
    time.sleep(seconds)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    runner.wait(pid, folder, begin)


def _patch(wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    for name in CHANGES:
        setattr(os, name, wrap(getattr(os, name)))


def _killer(change: int, is_after: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a wrapper that kills the process before or after its change number ``change``."""
    count = 0

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal count
            mine, count = count, count + 1
            if mine == change and not is_after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments, **more)
            if mine == change and is_after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    return wrap


def _count(log: Path) -> None:
    """Write one character for each change."""
    file = log.open("w")

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            file.write("x")
            file.flush()
            return function(*arguments, **more)

        return call

    _patch(wrap)


def _reading(reader: Command, folder: Path) -> tuple[Reading | None, runner.Outcome]:
    """Return what a reader prints and writes, None if it refuses."""
    before = world.files(folder)
    outcome = runner.run(reader, folder, 120)
    after = world.files(folder)
    written = {name for name in after if after[name] != before.get(name)}
    return (None if outcome.status else Reading(outcome.out, written, after)), outcome


def inspect(case: Case, reference: Reference, folder: Path) -> tuple[str, str]:
    """Return the broken promise, empty if none, and the messages of the command that broke it."""
    found = world.files(folder)
    why = half_written(reference, found, folder)
    if why:
        return why, ""
    is_mixed = found not in (reference.before, reference.after)
    for reader, readings in zip(case.readers, reference.readings, strict=True):
        if is_mixed:
            copy = world.copy(folder, folder.with_name("read"))
            reading, outcome = _reading(reader, copy)
            if outcome.fault():
                return f"then {reader.text}: {outcome.fault()}", outcome.err
            if reading is None or reader.text.startswith(PAGES):
                continue
            if not any(known is not None and reading.equals(known) for known in readings):
                return f"then {reader.text} took files of two runs", outcome.err
    outcome = runner.run(case.command, folder, 120)
    if outcome.status or outcome.fault():
        return f"the next run failed: {outcome.fault() or outcome.error_lines}", outcome.err
    return _differences(reference, world.files(folder)), outcome.err


def half_written(reference: Reference, found: Files, folder: Path) -> str:
    for name, content in found.items():
        path = folder / DATA / name
        if any(part.startswith(".") for part in Path(name).parts):
            continue  # a temporary file; the next run removes it
        if content in (reference.before.get(name), reference.after.get(name)):
            continue
        if path.name == "log.csv":  # grows by a line with each epoch
            continue
        return f"{name} is neither the old nor the new one"
    kept = set(reference.before) & set(reference.after)
    lost = sorted(name for name in kept - set(found) if not name.endswith(".json"))
    return f"{lost[0]} is lost" if lost else ""


def _differences(reference: Reference, found: Files) -> str:
    for name in sorted(set(reference.after) | set(found)):
        if name not in reference.after:
            return f"{name} is left behind after the next run"
        if found.get(name) != reference.after[name]:
            return f"the next run ends with another {name}"
    return ""
