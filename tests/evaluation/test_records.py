"""What an evaluation records of its setting and its inputs."""

from pathlib import Path

import numpy as np
import pytest

import build_image_db
from process_data import contact_sheet, image_matrix, mips, transform
from retrieval.data import layout, provenance
from retrieval.data.formats import Array, InputError
from retrieval.evaluation.pipeline import RankingOptions
from tests.conftest import SIDE


def test_an_evaluation_says_whether_it_is_transductive(pipeline: Path) -> None:
    start = pipeline / "para" / "model.ep0"
    files = {"to_test": None, "test_matrix": None, "database": None}

    def is_transductive(**options: object) -> bool:
        mips.run(pipeline, k=3, **files | options)  # type: ignore[arg-type]
        return layout.METRICS.load(pipeline)["transductive"]

    assert not is_transductive()
    transform.run(pipeline)
    moved = {"database": "database_t.npy", "test_matrix": "tdatabase_t.npy"}
    assert not is_transductive(**moved)
    assert is_transductive(database="database_t.npy", is_valid=True)  # fitted on the queries too
    transform.run(pipeline, center="per_domain")
    assert is_transductive(**moved)
    transform.run(pipeline, *moved.values(), "database_2.npy", "tdatabase_2.npy")
    assert is_transductive(database="database_2.npy", test_matrix="tdatabase_2.npy")
    build_image_db.run(pipeline, start, "test_image.npy", "t.npy", adapt_bn=True)
    assert is_transductive(test_matrix="t.npy")


def test_an_evaluation_names_the_first_weights_of_its_model(pipeline: Path) -> None:
    mips.run(pipeline, k=3)
    record = layout.METRICS.load(pipeline)
    assert record["weights"] == "random initialization"
    assert record["weights"] == layout.DATABASE_RECORD.load(pipeline)["weights"]


@pytest.mark.parametrize("is_valid", [True, False])
def test_each_input_is_hashed_once(
    pipeline: Path, is_valid: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    sha256 = provenance.sha256
    monkeypatch.setattr(provenance, "sha256", lambda path: hashed.append(path) or sha256(path))
    mips.run(pipeline, k=3, is_valid=is_valid)
    inputs = layout.METRICS.load(pipeline)["inputs"]
    assert sorted(inputs) == sorted(path.name for path in hashed)
    assert inputs["database.npy"] == sha256(pipeline / "database.npy")


def test_recorded_options_are_flat(pipeline: Path) -> None:
    options = layout.METRICS.load(pipeline)["options"]
    assert (options["k"], options["qe"], options["kr_weight"]) == (5, 0, 0.3)
    assert not {"data_dir", "ranking"} & set(options)


@pytest.mark.parametrize("file", [layout.NEIGHBORS, layout.SIMILARITIES])
def test_a_ranking_of_another_run_is_not_drawn(pipeline: Path, file: Array) -> None:
    """As a search leaves it that is killed before its record is written."""
    mips.run(pipeline, k=4)
    others = np.array(file.load(pipeline))
    mips.run(pipeline, k=4, is_valid=True)
    mips.run(pipeline, k=4, ranking=RankingOptions(qe=2))
    file.save(pipeline, others)
    with pytest.raises(InputError, match=f"{file.name} is not of the run that wrote .*mAP.json"):
        contact_sheet.run(pipeline)


def test_queries_of_another_side_are_named(pipeline: Path) -> None:
    mips.run(pipeline, k=3)
    assert "image_sides" not in layout.METRICS.load(pipeline)
    image_matrix.run(
        pipeline,
        "tindexinfo.csv",
        "Image_data/sv_data/image/",
        "test_image.npy",
        image_resolution=24,
    )
    build_image_db.run(pipeline, pipeline / "para/model.ep0", "test_image.npy", "tdatabase.npy")
    mips.run(pipeline, k=3)
    assert layout.METRICS.load(pipeline)["image_sides"] == [24, SIDE]
