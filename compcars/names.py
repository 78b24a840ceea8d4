"""Model names, from ``misc/make_model_name.mat``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.data import schema
from retrieval.data.formats import InputError
from retrieval.data.mat_reader import read_mat

if TYPE_CHECKING:
    import pandas as pd


def class_names(root: Path, make_of_model: dict[int, int]) -> "pd.DataFrame | None":
    """Return the name of each model, or None if the dataset has no ``make_model_name.mat``.

    Args:
        root: Folder of the web-nature images.
        make_of_model: Model id -> make id of the models to name.

    Returns:
        Table with the columns Class and ClassName, such as ``BMW X5``. A model without a name is
        called ``<make> model <id>``.
    """
    import pandas as pd

    path = root / "misc" / "make_model_name.mat"
    if not path.is_file():
        return None
    cells = read_mat(path, "make_names", "model_names")
    makes, models = (_texts(of_column, path) for of_column in cells)
    names = [_name(makes, make, models, model) for model, make in make_of_model.items()]
    return pd.DataFrame({"Class": list(make_of_model), "ClassName": names})


def _texts(cells: list[list[Any]], path: Path) -> list[str]:
    """Return the strings of an (n, 1) cell array."""
    if not schema.fits(cells, list[list[Any]]):
        raise InputError(f"{path} is not CompCars' {path.name}; unpack it again")
    return [str(cell).strip() for row in cells for cell in row]


def _name(makes: list[str], make: int, models: list[str], model: int) -> str:
    """Join make and model names; many model names already start with the make."""
    make_name = makes[make - 1] if make <= len(makes) else ""
    model_name = models[model - 1] if model <= len(models) else ""
    if not model_name:
        return f"{make_name} model {model}".strip()
    if model_name.lower().startswith(make_name.lower()):
        return model_name
    return f"{make_name} {model_name}"
