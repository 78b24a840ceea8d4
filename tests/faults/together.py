"""Two commands at once on one folder, as processes of one machine and of two containers."""

import time
from pathlib import Path

from tests.faults import mounts, runner, world
from tests.faults.kills import home_of, inspect, reference_of
from tests.faults.results import Result, generator
from tests.faults.stages import Case
from tests.faults.world import World


def run(whole: World, case: Case, number: int, seed: int, folder: Path) -> Result:
    """Run a stage twice at once, the second a moment later; then look, and run it again.

    The second one has other options, where the case has any.
    """
    name = f"together/{case.name}:{number}"
    has_namespaces = bool(number % 2)
    if has_namespaces and (reason := mounts.why_not()):
        return Result(name, case.name, "skipped", "", reason)
    reference = reference_of(whole, case)
    world.copy(home_of(whole, case) / "before", folder)
    moment = generator(seed, name, number).uniform(0, reference.seconds)
    hook = mounts.enter_pid_namespace if has_namespaces else None
    second = case.before[-1] if case.before and number % 4 < 2 else case.command
    begin = time.monotonic()
    first_pid = runner.start(case.command, folder, 60, hook, "first")
    time.sleep(moment)
    second_pid = runner.start(second, folder, 60, hook, "second")
    outcomes = (
        runner.wait(first_pid, folder, begin, "first"),
        runner.wait(second_pid, folder, begin, "second"),
    )
    why = next((outcome.fault() for outcome in outcomes if outcome.fault()), "")
    log = "".join(outcome.err for outcome in outcomes)
    if not why and all(outcome.status for outcome in outcomes):
        why = "both refused"
    if not why:
        why, log = inspect(case, reference, folder)
    places = "in two pid namespaces" if has_namespaces else "on one machine"
    verdict = "violation" if why else "refused" if any(o.status for o in outcomes) else "unharmed"
    return Result(
        name, case.name, verdict, f"{second.text} after {moment:.3f} s, {places}", why, log
    )
