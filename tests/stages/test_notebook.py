"""The notebook runs on what the stages wrote, and is kept without outputs."""

import copy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "dataset_diff.ipynb"


@pytest.mark.filterwarnings("ignore")  # of the kernel's machinery, not of the notebook
def test_the_notebook_runs_on_test_and_on_validation_images(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(pipeline))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = notebook.cells
    again = copy.deepcopy(cells)
    assert "is_valid = False" in again[1].source
    again[1].source = again[1].source.replace("is_valid = False", "is_valid = True")
    notebook.cells = cells + again  # in one kernel: starting one takes longer
    client = NotebookClient(notebook, resources={"metadata": {"path": str(NOTEBOOK.parent)}})
    client.execute()
    for run in (cells, again):
        pictures = [
            output["data"]["image/png"]
            for cell in run
            for output in cell.get("outputs", [])
            if "image/png" in output.get("data", {})
        ]
        assert len(pictures) == 5  # one query, a photo, the best, the worst, the plot


def test_the_notebook_is_kept_without_outputs_and_functions() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert "def " not in cell.source
