"""Attack every stage: kills, damaged files, odd options, company, full and read-only disks.

    python -m tests.faults.campaign --kills=100 --inputs=1000 --seed=0

Works in a folder of its own under the temporary folder, and removes it. A violation is printed with
its case; ``--case=KIND:NUMBER`` and the same ``--seed`` run that one again.
"""

import argparse
import gc
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import date
from multiprocessing import get_context
from pathlib import Path

# The cases run one beside the other, each on one core; the libraries read this when imported.
os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the children change their working directory

import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from retrieval.data import provenance  # noqa: E402
from tests.faults import disks, inputs, kills, odd_options, together, world  # noqa: E402
from tests.faults.damage import KINDS  # noqa: E402
from tests.faults.results import Result, table  # noqa: E402
from tests.faults.stages import CASES, DATA, case_of  # noqa: E402

_whole: world.World


PER_STAGE = {"kill": kills.run, "together": together.run}
PER_STAGE |= {"full": disks.run_full, "read-only": disks.run_read_only}


def plan(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the cases, kind by kind in turn, so that an early end has some of all."""
    if arguments.case:
        yield from arguments.case
        return
    counts = {
        "option": arguments.options,
        **{kind: arguments.inputs for kind in KINDS if inputs.readers(_whole, kind)},
    }
    for name in _whole.results:
        counts |= {f"kill/{name}": arguments.kills, f"together/{name}": arguments.together}
        counts |= {f"full/{name}": arguments.disks, f"read-only/{name}": min(arguments.disks, 1)}
    only = {*(arguments.only or counts)}
    wanted = {kind: n for kind, n in counts.items() if {kind, kind.partition("/")[0]} & only}
    steps = max(wanted.values(), default=0)
    for step in range(steps):
        for kind, count in wanted.items():  # each in proportion
            first, last = (step * count // steps, (step + 1) * count // steps)
            yield from (f"{kind}:{number}" for number in range(first, last))


def run_case(name: str, seed: int, root: Path) -> Result:
    """Run one case in a folder of this process."""
    kind, number = name.rsplit(":", 1)
    folder = root / f"worker{os.getpid()}" / "case"
    folder.parent.mkdir(exist_ok=True)
    way, _, stage = kind.partition("/")
    try:
        if way in PER_STAGE:
            return PER_STAGE[way](_whole, case_of(stage), int(number), seed, folder)
        if way == "option":
            return odd_options.run(_whole, int(number), seed, folder)
        return inputs.run(_whole, kind, int(number), seed, folder)
    except Exception as error:
        raise RuntimeError(f"the campaign failed in {name}") from error


def prepare_kills(cases: Sequence[str], workers: int) -> None:
    """Make what the kills are compared with, for the stages that are killed."""
    names = {name.partition("/")[2].rpartition(":")[0] for name in cases if "/" in name}
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        for made in [pool.submit(kills.prepare, _whole, case_of(name)) for name in sorted(names)]:
            made.result()


def run_all(cases: Sequence[str], seed: int, root: Path, workers: int, end: float) -> list[Result]:
    """Run the cases in forked workers until ``end``; print violations as they come."""
    results = []
    with (
        ProcessPoolExecutor(workers, get_context("fork")) as pool,
        tqdm(total=len(cases), unit="case", disable=None) as bar,
    ):
        waiting = {pool.submit(_run_before, end, name, seed, root) for name in cases}
        for done in as_completed(waiting):
            try:
                result = done.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            bar.update()
            if result is None:
                continue
            results.append(result)
            if result.verdict == "violation":
                line = f"{result.case}  {result.stage}: {result.what}: {result.why}"
                tqdm.write(line, file=sys.stderr)
    return results


def _run_before(end: float, name: str, seed: int, root: Path) -> Result | None:
    return run_case(name, seed, root) if time.monotonic() < end else None


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--kills", type=int, default=100, help="kills of each stage")
    add("--inputs", type=int, default=1000, help="damaged files of each kind")
    add("--options", type=int, default=1000, help="odd values of options")
    add("--together", type=int, default=20, help="runs of two commands at once, for each stage")
    add("--disks", type=int, default=20, help="runs on a full disk, for each stage")
    add("--seed", type=int, default=0, help="seed of all cases")
    add("--only", action="append", help="a kind of cases; may be given several times")
    add("--stage", action="append", help="a stage of the table; may be given several times")
    add("--data", type=Path, help="a small data directory to attack copies of; default: a new one")
    add("--output", type=Path, help="a Markdown file whose campaign block gets the table")
    add("--case", action="append", help="run this case again; may be given several times")
    add("--minutes", type=float, default=60, help="stop after this time")
    add("--workers", type=int, default=2, help="cases at a time")
    return parser


def rewrite(document: Path, text: str) -> None:
    """Replace the tables of the last run by those of this one."""
    before = document.read_text(encoding="utf-8")
    head, _, rest = before.partition("<!-- campaign -->\n")
    _, end, tail = rest.partition("<!-- end -->")
    document.write_text(f"{head}<!-- campaign -->\n{text}\n{end}{tail}", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    global _whole
    arguments, begin = make_parser().parse_args(argv), time.monotonic()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    shm = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="campaign-", dir=shm if shm.is_dir() else None))
    try:
        _whole = world.World(root)
        if arguments.data:
            world.copy(arguments.data, _whole.folder / DATA)
        else:
            world.build(_whole)
        chosen = [case for case in CASES if arguments.stage is None or case.name in arguments.stage]
        for case in chosen:
            if arguments.data:
                world.extend(_whole, case)
        for case in chosen:
            world.measure(_whole, case)
        cases = list(plan(arguments))
        gc.freeze()  # forks share the memory of what is loaded
        prepare_kills(cases, arguments.workers)
        end = time.monotonic() + 60 * arguments.minutes
        results = run_all(cases, arguments.seed, root, arguments.workers, end)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    tables = f"{table(results, 'kind')}\n\n{table(results, 'stage')}"
    print(tables)
    if arguments.case:
        print(*(f"{result}\n{result.log}" for result in results), sep="\n")
    if arguments.output is not None:
        options = f"--kills={arguments.kills} --inputs={arguments.inputs} --seed={arguments.seed}"
        minutes = (time.monotonic() - begin) / 60
        about = f"{date.today()}: {provenance.processor()}, {minutes:.0f} minutes; {options}"
        rewrite(arguments.output, f"{tables}\n\n{about}")
    violations = [result for result in results if result.verdict == "violation"]
    for result in violations:
        print(f"{result.stage}: {result.what}: {result.why}\n    {repeat(result, arguments.seed)}")
    for kind, reason in sorted({(r.kind, r.why) for r in results if r.verdict == "skipped"}):
        print(f"{kind}: skipped, {reason}")
    return int(bool(violations))


def repeat(result: Result, seed: int) -> str:
    """Return the command that runs a case again and prints its messages."""
    return f"python -m tests.faults.campaign --seed={seed} --case='{result.case}'"


if __name__ == "__main__":
    raise SystemExit(main())
