"""The data directory: every file, the command that writes it, and its content.

Stages contain no file names. They read with ``layout.X.load(data_dir)`` and write with
``layout.X.save(data_dir, value)``; both check the declarations below. If an option sets the name
(``--mname``, ``--input``, ...), it is the optional last argument.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from retrieval.data.command_lines import Maker, newest_checkpoint, root_of, web_photos
from retrieval.data.formats import RESERVED, Array, File, Folder, Json, Table


def _stage(name: str, **options: str | Callable[[Path], str]) -> Maker:
    return Maker(f"python -m {name}", dict(options))


def _encode(**names: str) -> Maker:
    return Maker("python build_image_db.py", {"save_path": newest_checkpoint, **names})


def _matrix(index: str, root: str, name: str) -> Maker:
    root_path = root_of(lambda _: index, root)
    stage = "process_data.image_matrix"
    return _stage(stage, image_info=index, image_root_path=root_path, mname=name)


_IMAGE_COLUMNS = {"Path": "str", "Class": "int64", "Index": "int64"}
_CAR_COLUMNS = {
    "Path": "str",
    "FileName": "str",
    "View Point": "int64",
    "Year": "str",
    "CarMake": "int64",
    "Class": "int64",
    "Index": "int64",
    "X1": "float64",
    "Y1": "float64",
    "X2": "float64",
    "Y2": "float64",
}
_ORIGIN = {
    "content": str,
    "index?": str,
    "index_sha256?": str | None,
    "images_sha256?": str,
    "sources?": dict[str, str],
    "photos?": dict[str, str] | None,
    "preparation?": dict[str, Any] | None,
    "checkpoint?": str,
    "checkpoint_sha256?": str,
    "weights?": str,
    "domains?": list[str],
    "split?": dict[str, str] | None,
    "held_out?": list[int],
}
_MEASURED = {
    "search": str,
    "queries": Literal["valid", "test"],
    "stage": str,
    "options": dict[str, Any],
    "per_query": list[str],
    "query_file": str,
    "inputs": dict[str, str],
    "versions": dict[str, str],
    "definitions": dict[str, str],
    "files": dict[str, str],
    "sources?": dict[str, str],
    "macro?": dict[str, float],
    "intervals?": dict[str, list[float]],  # of two classes or more
    "device": str,
    "transductive": bool,
    "protocol": Literal["images", "classes"],
    "weights?": str,
    "trained_on?": str,
    "checkpoint?": str,
    "held_out?": list[int],
    "image_sides?": list[int],
    "*": float,  # the metrics
}
_CAMERAS = "Image_data/sv_data/image/"
_SPLIT = _stage("process_data.make_train_valid", iname=web_photos)
_MASKS = _stage("process_data.mask_data")
_TRANSFORM = _stage("process_data.transform")
_SEARCH = _stage("process_data.mips")
_ENCODE = _encode()

CAR_FRONT = Table(
    "car_front.csv",
    _stage("compcars.data_info"),
    "web images from the front and front side (viewpoints 1 and 4)",
    _CAR_COLUMNS,
)
CAR_REAR = Table(
    "car_rear.csv",
    _stage("compcars.data_info"),
    "web images from the rear and rear side (viewpoints 2 and 5)",
    _CAR_COLUMNS,
)
IMAGE_INDEX = Table(
    "indexinfo.csv",
    _stage("process_data.data_info"),
    "your own images, one class per folder; ClassName is its name, the levels are text",
    _IMAGE_COLUMNS,
    ("ClassName", "Make", "Model", "Year", "Split", "View Point", "X1", "Y1", "X2", "Y2"),
)
CLASS_NAMES = Table(
    "class_names.csv",
    _stage("compcars.data_info"),
    "the name of each Class (process_data.data_info writes it too)",
    {"Class": "int64", "ClassName": "str"},
)
TEST_INDEX = Table(
    "tindexinfo.csv",
    _stage("compcars.test_data_info"),
    "surveillance images; Class is the web-nature model id",
    _IMAGE_COLUMNS,
)
CAMERA_INDEX = Table(
    "camera_index.csv",
    _stage("compcars.test_data_info", split="train"),
    "surveillance images to train on; Class is the web-nature model id",
    _IMAGE_COLUMNS,
)
TEST_QUERIES = Array(
    "test.npy",
    _stage("compcars.test_data_info"),
    "Index and Class of the test images",
    "int64",
    ("n_test", 2),
)
IMAGE_MATRIX = Array(
    "imageset.npy",
    _stage(
        "process_data.image_matrix",
        image_info=web_photos,
        image_root_path=root_of(web_photos, "Image_data/data/image/"),
    ),
    "the database's images, RGB; row i is the image with Index i",
    "uint8",
    ("n_image", 3, "side", "side"),
)
TEST_MATRIX = Array(
    "test_image.npy",
    _matrix("tindexinfo.csv", _CAMERAS, "test_image.npy"),
    "the test images, in the same form",
    "uint8",
    ("n_test", 3, "side", "side"),
)
CAMERA_MATRIX = Array(
    "camera_image.npy",
    _matrix("camera_index.csv", _CAMERAS, "camera_image.npy"),
    "the camera images to train on, in the same form",
    "uint8",
    ("n_camera", 3, "side", "side"),
)
TRAIN = Array(
    "train.npy",
    _SPLIT,
    "training tuples: anchor, positive, negatives (Indexes)",
    "int64",
    ("n_pair", "2 + neg_count"),
)
TRAIN_REVERSED = Array(
    "train2.npy",
    _SPLIT,
    "each pair reversed, with its own negatives",
    "int64",
    ("n_pair", "2 + neg_count"),
)
VALID_PAIRS = Array(
    "valid.npy",
    _SPLIT,
    "validation image, training image, 1 same class / 0 different",
    "int64",
    ("2 * n_valid", 3),
)
VALID_QUERIES = Array(
    "valid_for_test.npy",
    _SPLIT,
    "Index and Class of the validation queries",
    "int64",
    ("n_valid", 2),
)
SPLIT = Json(
    "split.json",
    _SPLIT,
    "the protocol and the options of the split",
    {
        "protocol": Literal["images", "classes"],
        "index": str,
        "sha256": str,
        "index_sha256": str,
        "sources?": dict[str, str],
    },
)
CLASS_IMAGES = Json(
    "model_num.json", _SPLIT, "class -> the Indexes of its images", dict[str, list[int]]
)
MINOR_CLASSES = Json(
    "cutted_class.json", _SPLIT, "the minor classes: fewer than --min_len images", list[int]
)
DATABASE = Array(
    "database.npy",
    _ENCODE,
    "embeddings of imageset.npy, rows of unit L2 norm",
    "float32",
    ("n_image", "dim"),
)
TEST_DATABASE = Array(
    "tdatabase.npy",
    _encode(input="test_image.npy", output="tdatabase.npy"),
    "embeddings of test_image.npy, rows of unit L2 norm",
    "float32",
    ("n_test", "dim"),
)
DATABASE_RECORD = Json(
    "database.json",
    _ENCODE,
    "where database.npy came from: hashes of the checkpoint and the images (tdatabase.json alike)",
    _ORIGIN,
)
DATABASE_TRANSFORMED = Array(
    "database_t.npy",
    _TRANSFORM,
    "database.npy, centered and whitened, rows of unit L2 norm (a .json beside it, as above)",
    "float32",
    ("n_image", "new_dim"),
)
TEST_DATABASE_TRANSFORMED = Array(
    "tdatabase_t.npy",
    _TRANSFORM,
    "tdatabase.npy, by the same transform",
    "float32",
    ("n_test", "new_dim"),
)
TRANSFORM_MEANS = Array(
    "database_t.means.npy",
    _TRANSFORM,
    "the transform: what is subtracted from the database's rows, and from the queries'",
    "float64",
    (2, "dim"),
)
TRANSFORM_MATRIX = Array(
    "database_t.matrix.npy",
    _TRANSFORM,
    "the transform: what the rows are then multiplied by, before normalization",
    "float64",
    ("dim", "new_dim"),
)
ONNX_MODEL = File(
    "model.onnx",
    _stage("process_data.export_onnx", save_path=newest_checkpoint),
    "the trained model for programs without torch: images to embeddings",
)
TEST_MASKED = Array(
    "test_masked.npy",
    _MASKS,
    "test.npy without minor classes",
    "int64",
    ("n_query", 2),
)
GALLERY_MASK = Array(
    "mask2.npy",
    _MASKS,
    "1: the image may be retrieved, 0: it is of a minor class",
    "uint8",
    (1, "n_image"),
)
DATABASE_MASKED = Array(
    "database_masked.npy",
    _MASKS,
    "the rows of database.npy that may be retrieved",
    "float32",
    ("n_kept", "dim"),
)
CLASSES_MASKED = Array(
    "dbcm.npy", _MASKS, "Class of each row of database_masked.npy", "int64", ("n_kept",)
)
MASKS_RECORD = Json(
    "masks.json",
    _MASKS,
    "which split and which list of test images the masks were made from",
    {"split_sha256": str, "tindex": str | None, "sources?": dict[str, str]},
)
NEIGHBORS = Array(
    "neighbors.npy",
    _SEARCH,
    "last evaluation: Indexes in the database, best first, -1 if there are fewer than k",
    "int64",
    ("n_query", "k"),
)
SIMILARITIES = Array(
    "similarities.npy",
    _SEARCH,
    "last evaluation: the cosine similarities of the neighbors",
    "float32",
    ("n_query", "k"),
)
METRICS = Json(
    "mAP.json", _SEARCH, "last evaluation: options, metrics, and the definition of each", _MEASURED
)
PER_QUERY = Array(
    "mAP.npy",
    _SEARCH,
    "last evaluation: the metrics of each query; mAP.json names the columns (per_query)",
    "float64",
    ("n_query", "n_column"),
)
EVALUATION = Json(
    "evaluations/mips-test.json",
    _SEARCH,
    "the same, kept for each search (mips, nns, pixels, histogram, or --run) and queries "
    "(valid, test)",
    _MEASURED,
)
EVALUATION_PER_QUERY = Array(
    "evaluations/mips-test.npy",
    _SEARCH,
    "the same for each kept evaluation",
    "float64",
    ("n_query", "n_column"),
)
LOPQ_INDEX = File(
    "lopq.index",
    _stage("process_data.nns"),
    "the fitted LOPQ model and the codes of the database (format: docs/lopq.md)",
)
LOPQ_RECORD = Json(
    "lopq.json",
    _stage("process_data.nns"),
    "what lopq.index was fitted on: the hashes of database and validation queries, the options, "
    "the format",
    dict[str, Any],
)
CALIBRATION = Json(
    "calibration.json",
    _stage("process_data.calibrate"),
    "how likely an answer is right (model, make, year), what that was measured to be worth, and "
    "the hashes of the checkpoint and of database.json",
    dict[str, Any],
)
SEARCH_SHEET = File(
    "search.png",
    _stage("process_data.search", save_path=newest_checkpoint, image="photo.jpg"),
    "the photos of the last search and their answers",
)
CONTACT_SHEET = File(
    "contact_sheet.png",
    _stage("process_data.contact_sheet"),
    "queries of the last evaluation and their results",
)
REPORT = File(
    "report.html",
    _stage("process_data.report"),
    "all evaluations on one page: metrics, curves, classes, confusions, pictures, commands",
)
AUDIT = Table(
    "audit.csv",
    _stage("process_data.audit"),
    "duplicates, label conflicts and blank images, the most serious first; B is empty if a "
    "finding is about one image",
    {
        "Kind": "str",
        "Distance": "float64",
        "Similarity": "float64",
        "IndexA": "int64",
        "IndexB": "float64",
        "PathA": "str",
        "PathB": "str",
        "ClassA": "int64",
        "ClassB": "float64",
        "WhereA": "str",
        "WhereB": "str",
        "Conflict": "str",
    },
)
AUDIT_PAGE = File(
    "audit.html", _stage("process_data.audit"), "the same on a page, with the pictures side by side"
)
STORE = Folder(
    "store",
    _stage("process_data.publish"),
    "image store, to add and remove images: a LanceDB database (docs/serving.md)",
)


def declared() -> list[File]:
    """Return every file declared here, in the order of the pipeline."""
    return [value for value in globals().values() if isinstance(value, File)]


RESERVED.update({file.name: file for file in declared()})
