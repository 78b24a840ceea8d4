"""Shards on a Ray cluster of two nodes: what is lost is made again, and bytes are those of one run.

Both nodes run on this machine.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import build_image_db
from process_data import image_matrix, nns
from retrieval import cli
from retrieval.compute import ray_tasks
from retrieval.compute.make_shards import make_shards
from retrieval.data import files, layout
from retrieval.data.decoded_photos import PhotoOptions
from retrieval.data.formats import InputError
from tests.compute.numbered import ROWS, NumberedJob
from tests.conftest import SIDE


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)


def test_ray_that_is_not_installed(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)
    layout.IMAGE_MATRIX.at(pipeline).unlink()
    with pytest.raises(InputError, match="pip install -r requirements-ray.txt"):
        image_matrix.run(pipeline, shards=2, engine="ray")
    assert not layout.IMAGE_MATRIX.at(pipeline).exists()


@pytest.mark.parametrize("options", [{}, {"shards": 3, "shard": 1}])
def test_options_that_ray_does_not_take(tree: Path, options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="it takes --shards=2 or more, no --shard"):
        image_matrix.run(tree, engine="ray", **options)  # type: ignore[arg-type]


def test_no_cluster_at_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(InputError, match="no Ray cluster answers at RAY_ADDRESS=127.0.0.1:9"):
        make_shards(NumberedJob(tmp_path / "array.npy"), "ray")


def start_cluster() -> Any:
    """Start two nodes of one core; they read OMP_NUM_THREADS from this process."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    sizes = {"num_cpus": 1, "object_store_memory": ray_tasks.STORE_BYTES}
    soon = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}  # nodes are lost
    head = {**sizes, "include_dashboard": False, "_system_config": soon}
    found = Cluster(initialize_head=True, head_node_args=head)
    found.second = found.add_node(**sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONBREAKPOINT", "")  # Ray sets it for its debugger
        ray.init(address=found.address, logging_level="ERROR", log_to_driver=False)
    return found


def stop_cluster(clusters: list[Any]) -> None:
    import ray

    ray.shutdown()
    clusters.pop().shutdown()


@pytest.fixture(scope="module")
def clusters() -> Iterator[list[Any]]:
    """The cluster that is running, if any."""
    running: list[Any] = []
    yield running
    if running:
        stop_cluster(running)


@pytest.fixture
def cluster(clusters: list[Any]) -> Any:
    """A cluster for all tests; whoever breaks it stops it."""
    if not clusters:
        clusters.append(start_cluster())
    return clusters[0]


def joined(job: NumberedJob) -> np.ndarray:
    """Make the shards that are missing, join them, and return the array."""
    make_shards(job, "ray")
    assert job.plan.missing() == []
    job.plan.join()
    return np.load(job.target)


EXPECTED = np.stack([np.arange(ROWS)] * 2, axis=1)


@pytest.mark.parametrize("is_relative", [False, True])
def test_stages_give_the_bytes_of_one_run(
    cluster: Any, pipeline: Path, monkeypatch: pytest.MonkeyPatch, is_relative: bool
) -> None:
    if is_relative:  # to a folder that is not the nodes'
        monkeypatch.chdir(pipeline.parent)
        pipeline = Path(pipeline.name)
    matrix = layout.IMAGE_MATRIX.at(pipeline)
    checkpoint = pipeline / "para/model.ep0"
    expected = build_image_db.run(pipeline, checkpoint, batch_size=8).read_bytes()
    squares = matrix.read_bytes()
    for path in (matrix, layout.DATABASE.at(pipeline)):
        path.unlink()
    image_matrix.run(pipeline, image_resolution=SIDE, shards=3, engine="ray")
    assert matrix.read_bytes() == squares
    photos = PhotoOptions(image_resolution=SIDE)
    path = build_image_db.run(
        pipeline,
        checkpoint,
        batch_size=8,
        image_info="car_front.csv",
        photos=photos,
        shards=3,
        engine="ray",
    )
    assert path.read_bytes() == expected
    assert not list(pipeline.glob("*.shards")) + list(pipeline.glob(".*"))


def test_codes_give_the_bytes_of_one_run(cluster: Any, pipeline: Path) -> None:
    nns.run(pipeline, dimension=4, k=3, cells=3)
    index = layout.LOPQ_INDEX.at(pipeline)
    expected = index.read_bytes()
    index.unlink()
    nns.run(pipeline, dimension=4, k=3, cells=3, shards=2, engine="ray")
    assert index.read_bytes() == expected
    assert not list(pipeline.glob("*.shards")) + list(pipeline.glob(".*"))


def test_a_killed_process(cluster: Any, tmp_path: Path) -> None:
    job = NumberedJob(tmp_path / "array.npy", fault="kill")
    job.once.touch()
    np.testing.assert_array_equal(joined(job), EXPECTED)
    assert not job.once.exists()  # it was killed


def run_command(job: NumberedJob) -> int:
    """Run a job as a stage does, and return the status of the command."""

    def run(data_dir: Path) -> None:
        joined(job)

    parser = cli.stage_parser(run, "")
    return cli.execute(run, parser, [f"--dpath={job.target.parent}"])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("full", "No space left on device; make room on the disk and run the command again"),
        ("import", "a node cannot import what this machine can (No module named 'some_codec')"),
    ],
)
def test_faults_give_one_line_and_a_rerun_repairs(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str, message: str
) -> None:
    job = NumberedJob(tmp_path / "array.npy", fault=fault)
    job.once.touch()
    assert run_command(job) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "shard" not in line[:9]]
    assert message in line
    assert not job.target.exists()
    assert not list(tmp_path.glob(".*"))
    assert run_command(job) == 0
    np.testing.assert_array_equal(np.load(job.target), EXPECTED)


def test_bugs_keep_their_traceback(cluster: Any, tmp_path: Path) -> None:
    job = NumberedJob(tmp_path / "array.npy", fault="bug")
    job.once.touch()
    with pytest.raises(ZeroDivisionError):
        make_shards(job, "ray")


def test_two_commands_do_not_make_one_array(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WAIT_S", 0.1)
    job = NumberedJob(tmp_path / "array.npy")
    with files.scratch(job.target), pytest.raises(OSError, match="busy"):
        make_shards(job, "ray")
    (tmp_path / ".array.npy.00.part").touch()  # what a killed command leaves
    np.testing.assert_array_equal(joined(job), EXPECTED)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_disk_that_is_not_shared(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def elsewhere(target: Path) -> Iterator[ray_tasks.Probe]:
        yield ray_tasks.Probe(tmp_path / "probe", "what a node sees on its own disk is not this")

    job = NumberedJob(tmp_path / "array.npy")
    for found in (None, "another content"):
        if found:
            (tmp_path / "probe").write_text(found)
        with monkeypatch.context() as patch, pytest.raises(InputError, match="need one disk"):
            patch.setattr(ray_tasks, "_probe", elsewhere)
            make_shards(job, "ray")
        assert not job.plan.folder.exists()


def after_some_shards(job: NumberedJob, call: Any) -> threading.Thread:
    """Call something as soon as two shards of a job are there."""

    def watch() -> None:
        while len(list(job.plan.folder.glob("*.json"))) < 2:
            time.sleep(0.02)
        call()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_lost_node_and_then_the_head(
    cluster: Any, clusters: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = NumberedJob(tmp_path / "node.npy", shards=8, seconds=0.3)
    thread = after_some_shards(
        job, lambda: cluster.remove_node(cluster.second, allow_graceful=False)
    )
    np.testing.assert_array_equal(joined(job), EXPECTED)
    thread.join()

    job = NumberedJob(tmp_path / "head.npy", shards=12, seconds=0.4)
    thread = after_some_shards(job, lambda: cluster.head_node.kill_all_processes(check_alive=False))
    assert run_command(job) == 1
    thread.join()
    assert "lost its head: nothing was joined" in capsys.readouterr().err
    assert not job.target.exists()
    there = len(list(job.plan.folder.glob("*.json")))
    assert 2 <= there < 12
    stop_cluster(clusters)
    make_shards(job).join()  # here, without a cluster
    np.testing.assert_array_equal(np.load(job.target), EXPECTED)
