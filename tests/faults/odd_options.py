"""Options with values that nobody means: not finite, negative, huge, empty, other files' names."""

import argparse
import importlib
from pathlib import Path

from retrieval.data import layout
from tests.faults import runner, world
from tests.faults.inputs import lost
from tests.faults.results import Result, generator
from tests.faults.stages import CASES, DATA, SMALL, Case, Command
from tests.faults.world import World

NUMBERS = [
    "nan", "inf", "-inf", "-1", "0", "1", "-9223372036854775809", "9223372036854775808",
    "1" + "0" * 30, "1e308", "", "x", "1.5", "0x10", "1_0", "٣", "1e-320", "-0.0", "1,nan",
    "1,inf", ",", "9" * 5000, "1e5", "1000000000", "-1e9",
]  # fmt: skip
TEXTS = [
    "", " ", ".", "..", "x" * 300 + ".npy", "x" * 5000, "nowhere/x.npy", "\udcff.npy", "-", "%s",
    "{x}", "x\ny.npy", "x.npy", "x.json", "x.csv", "~", "nowhere/", "imageset.npy/x.npy",
    "Image_data", "é.npy", "x.png", "x.html", "x.onnx", "../x.npy", "*", "auto", "none",
    "evaluations", "para/model.ep0", "NA", "0",
]  # fmt: skip
# These say how much work to do: a number of them is no mistake, and takes its time.
WORK = {"models", "images", "others", "surveillance", "epoch", "width", "height", "minutes"}
HUGE = 1000
# A resumed training refuses other options before it looks at their values.
NEW = {"train": Command("train", (f"--save_path={DATA}/new/", "--epoch=1", *SMALL))}


def options(whole: World) -> list[tuple[Case, argparse.Action]]:
    """Return each option that takes a value, with a case of its stage."""
    found, seen = [], set()
    for case in CASES:
        module = case.command.module
        if module in seen or case.name not in whole.results:
            continue
        seen.add(module)
        actions = importlib.import_module(module).make_parser()._actions
        found += [
            (case, action)
            for action in actions
            if action.dest not in ("help", "data_dir") and action.nargs != 0
        ]
    return found


def run(whole: World, number: int, seed: int, folder: Path) -> Result:
    """Run a stage with one odd option more, in a copy of the data directory."""
    random = generator(seed, "option", number)
    of_all = options(whole)
    case, action = of_all[number % len(of_all)]
    reserved = [file.name for file in layout.declared()]
    values = [*NUMBERS, "x"] if _is_number(action) else [*TEXTS, *reserved]
    value = values[random.integers(0, len(values))]
    if action.dest in WORK and _is_huge(value):
        value = "-1"
    flag = action.option_strings[-1] if action.option_strings else None
    given = (f"{flag}={value}",) if flag else (value,)
    usual = NEW.get(case.command.module, case.command)
    command = Command(usual.module, (*usual.options, *given))
    world.copy(whole.folder, folder)
    before = world.files(folder)
    outcome = runner.run(command, folder)
    writes = whole.writes[case.name] | _own_names(case)
    why = outcome.fault() or lost(before, world.files(folder), writes)
    if not why and not outcome.status and "nan" in value and _is_number(action):
        why = "nan was taken as a number"
    verdict = "violation" if why else "refused" if outcome.status else "unharmed"
    what = f"{given[0][:80]!r}"
    return Result(f"option:{number}", case.name, verdict, what, why, outcome.err)


def _own_names(case: Case) -> set[str]:
    """Return the files that are the stage's own, whatever its options, and their records."""
    path = case.command.module
    stages = f"python -m {path}", f"python {path}.py"
    own = {file.name for file in layout.declared() if file.stage in stages}
    search = path.rpartition(".")[2]
    own |= {f"evaluations/{search}-{queries}.json" for queries in ("test", "valid")}
    return own | {Path(name).with_suffix(".json").as_posix() for name in own if name[-3:] == "npy"}


def _is_number(action: argparse.Action) -> bool:
    try:
        action.type("x") if callable(action.type) else None
    except (ValueError, argparse.ArgumentTypeError):
        return True
    return False


def _is_huge(value: str) -> bool:
    try:
        return not -HUGE < float(value) < HUGE
    except ValueError:
        return False
