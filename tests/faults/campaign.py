"""Attack every stage: kills, damaged files, odd options, company, full and read-only disks.

    python -m tests.faults.campaign --kills=100 --inputs=1000 --seed=0

Works in a folder of its own under the temporary folder, and removes it. A violation is printed with
its case; ``--case=KIND:NUMBER`` and the same ``--seed`` run that one again.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

# The cases run one beside the other, each on one core; the libraries read this when imported.
os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the children change their working directory

import torch
from tqdm import tqdm

from tests.faults import inputs, kills, world
from tests.faults.damage import KINDS
from tests.faults.results import Result, table
from tests.faults.stages import CASES, case_of

_whole: world.World


def plan(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the cases, kind by kind in turn, so that an early end has some of all."""
    if arguments.case:
        yield from arguments.case
        return
    kinds = [kind for kind in KINDS if arguments.only in (None, "inputs", kind)]
    for number in range(arguments.inputs):
        yield from (f"{kind}:{number}" for kind in kinds)
    killed = [case.name for case in CASES if arguments.only in (None, "kills", case.name)]
    for number in range(arguments.kills):
        yield from (f"kill/{name}:{number}" for name in killed)


def run_case(name: str, seed: int, root: Path) -> Result:
    """Run one case in a folder of this process."""
    kind, number = name.rsplit(":", 1)
    folder = root / f"worker{os.getpid()}" / "case"
    folder.parent.mkdir(exist_ok=True)
    try:
        if kind.startswith("kill/"):
            case = case_of(kind.removeprefix("kill/"))
            return kills.run(_whole, case, int(number), seed, folder)
        return inputs.run(_whole, kind, int(number), seed, folder)
    except Exception as error:
        raise RuntimeError(f"the campaign failed in {name}") from error


def prepare_kills(cases: Sequence[str], workers: int) -> None:
    """Make what the kills are compared with, for the stages that are killed."""
    names = dict.fromkeys(case[5:].rpartition(":")[0] for case in cases if case[:5] == "kill/")
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        for made in [pool.submit(kills.prepare, _whole, case_of(name)) for name in names]:
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
            result = done.result()
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
    add("--seed", type=int, default=0, help="seed of all cases")
    add("--only", help="one part or kind")
    add("--case", action="append", help="run this case again; may be given several times")
    add("--minutes", type=float, default=60, help="stop after this time")
    add("--workers", type=int, default=2, help="cases at a time")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    global _whole
    arguments = make_parser().parse_args(argv)
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    shm = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="campaign-", dir=shm if shm.is_dir() else None))
    try:
        _whole = world.build(root)
        for case in CASES:
            world.measure(_whole, case)
        cases = list(plan(arguments))
        prepare_kills(cases, arguments.workers)
        end = time.monotonic() + 60 * arguments.minutes
        results = run_all(cases, arguments.seed, root, arguments.workers, end)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(table(results, "kind"), table(results, "stage"), sep="\n\n")
    if arguments.case:
        print(*(f"{result}\n{result.log}" for result in results), sep="\n")
    return int(any(result.verdict == "violation" for result in results))


if __name__ == "__main__":
    raise SystemExit(main())
