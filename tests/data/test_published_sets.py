"""Small trees in the layouts of Stanford Cars, CUB-200-2011 and Stanford Online Products."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from process_data import data_info, image_matrix, make_train_valid
from retrieval.data import image_index, layout
from retrieval.data.formats import InputError


def draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (200, 30, 30)).save(path)


def struct(**columns: list[object]) -> np.ndarray:
    """Return a (1, n) MATLAB struct."""
    rows = list(zip(*columns.values(), strict=True))
    return np.array([rows], dtype=[(name, object) for name in columns])


def names(n: int) -> np.ndarray:
    cells = np.empty((1, n), object)
    cells[0] = [f"Make{i:03}  Model Coupe 20{i % 20:02}" for i in range(1, n + 1)]
    cells[0, 0] = "Aston Martin V8 Vantage 2012"
    return cells


def boxes(n: int) -> dict[str, list[object]]:
    corners = {"bbox_x1": 1, "bbox_y1": 3, "bbox_x2": 40, "bbox_y2": 30}
    return {name: [value] * n for name, value in corners.items()}


def stanford_cars(root: Path, is_devkit: bool) -> None:
    labels = [1, 1, 2, 2, 98, 99, 99, 100, 100]
    if not is_devkit:
        paths = [f"car_ims/{i:06}.jpg" for i in range(9)]
        annotations = struct(relative_im_path=paths, **boxes(9), **{"class": labels}, test=[0] * 9)
        content = {"annotations": annotations, "class_names": names(100)}
        scipy.io.savemat(root / "cars_annos.mat", content)
    else:
        (root / "devkit").mkdir()
        scipy.io.savemat(root / "devkit/cars_meta.mat", {"class_names": names(100)})
        lists = {"train": labels[:4], "test": labels[4:]}
        paths = []
        for part, own in lists.items():
            files = [f"{i:05}.jpg" for i in range(len(own))]
            paths += [f"cars_{part}/{name}" for name in files]
            suffix = "" if part == "train" else "_withlabels"
            annotations = struct(fname=files, **boxes(len(own)), **{"class": own})
            name = f"cars_{part}_annos{suffix}.mat"
            scipy.io.savemat(root / "devkit" / name, {"annotations": annotations})
    for path in paths:
        draw(root / path)


def birds(root: Path) -> None:
    of_class = {1: "001.Albatross", 2: "002.Auk", 101: "101.Pelican", 102: "102.Phoebe"}
    files = [f"{name}/{i}.jpg" for name in of_class.values() for i in range(2)]
    lines = {
        "images": files,
        "image_class_labels": [label for label in of_class for _ in range(2)],
        "bounding_boxes": ["0.0 2.0 40.0 28.0"] * len(files),
    }
    for name, values in lines.items():
        text = "".join(f"{i} {value}\n" for i, value in enumerate(values, 1))
        (root / f"{name}.txt").write_text(text)
    text = "".join(f"{label} {name}\n" for label, name in of_class.items())
    (root / "classes.txt").write_text(text)
    for file in files:
        draw(root / "images" / file)


def products(root: Path) -> None:
    for split, labels in {"train": [1, 2, 3], "test": [4, 5]}.items():
        lines = ["image_id class_id super_class_id path"]
        for label in labels:
            for i in range(2):
                path = f"bicycle_final/{label}_{i}.JPG"
                lines.append(f"{2 * label + i} {label} 1 {path}")
                draw(root / path)
        (root / f"Ebay_{split}.txt").write_text("\n".join(lines) + "\n")


SETS = {
    "cars": lambda root: stanford_cars(root, is_devkit=False),
    "cars_devkit": lambda root: stanford_cars(root, is_devkit=True),
    "birds": birds,
    "products": products,
}
TRAINED = {"cars": 5, "cars_devkit": 5, "birds": 4, "products": 6}  # photos


@pytest.mark.parametrize("name", SETS)
def test_a_published_set_is_read_with_its_split_and_boxes(name: str, tmp_path: Path) -> None:
    root = tmp_path / "download"
    root.mkdir()
    SETS[name](root)
    data_info.run(tmp_path, "download/")
    table = image_index.by_index(layout.IMAGE_INDEX.load(tmp_path), "indexinfo.csv")
    assert (table["Split"] == "train").sum() == TRAINED[name]
    make_train_valid.run(tmp_path, layout.IMAGE_INDEX.name, protocol="classes", neg_count=1)
    queries = layout.VALID_QUERIES.load(tmp_path)[:, 0]
    assert set(queries) == set(np.flatnonzero(table["Split"] == "test"))
    crop = "none" if name == "products" else "box"
    image_matrix.run(tmp_path, layout.IMAGE_INDEX.name, "download/", image_resolution=16, crop=crop)
    if name != "products":
        assert table[["X1", "Y1", "X2", "Y2"]].drop_duplicates().to_numpy().tolist() == [
            [0, 2, 40, 30]
        ]
    if name.startswith("cars"):
        first = table.iloc[int(np.argmax(table["Make"] == "Aston Martin"))]
        assert (first["Model"], str(first["Year"])) == ("V8 Vantage", "2012")
        assert set(table["ClassName"]) >= {"Make002 Model Coupe 2002"}


def test_a_set_that_is_not_complete_says_what_is_missing(tmp_path: Path) -> None:
    root = tmp_path / "download"
    root.mkdir()
    stanford_cars(root, is_devkit=True)
    (root / "cars_test/00001.jpg").unlink()
    with pytest.raises(InputError, match=r"00001\.jpg is missing; unpack all archives"):
        data_info.run(tmp_path, "download/")
    (root / "devkit/cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(InputError, match=r"withlabels\.mat is missing"):
        data_info.run(tmp_path, "download/")
    (root / "devkit/cars_meta.mat").write_bytes(b"no mat file")
    with pytest.raises(InputError, match=r"cars_meta\.mat has no class_names, or is damaged"):
        data_info.run(tmp_path, "download/")
