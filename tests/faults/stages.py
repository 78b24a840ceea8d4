"""The commands of the campaign: every stage on a tiny data directory, named relatively.

The folder of a case is the working directory and ``ir`` in it is the data directory, so that
the records of two cases name the same paths.
"""

from dataclasses import dataclass

DATA = "ir"
SIDE, IMAGES = 32, 8
SMALL = ("--arch=timm/test_resnet", "--dim=16", "--weights=none", "--device=cpu", "--lr=0.001")
SV = ("--image_info=tindexinfo.csv", "--image_root_path=Image_data/sv_data/image/")


@dataclass(frozen=True)
class Command:
    """One command line.

    Attributes:
        module: The stage.
        options: Its options but ``--dpath``.
    """

    module: str
    options: tuple[str, ...] = ()

    @property
    def argv(self) -> list[str]:
        return [f"--dpath={DATA}", *self.options]

    @property
    def text(self) -> str:
        return " ".join((self.module, *self.options))


@dataclass(frozen=True)
class Case:
    """A stage in the campaign.

    Attributes:
        name: Its name in the table.
        command: What is killed, and what reads the damaged files.
        before: Commands that leave other files in the places of its outputs; without any, the
            outputs are absent before.
        readers: Commands that read its outputs.
        is_built: Whether the command belongs to the whole data directory.
    """

    name: str
    command: Command
    before: tuple[Command, ...] = ()
    readers: tuple[Command, ...] = ()
    is_built: bool = True


def _encode(images: str, output: str, *more: str) -> Command:
    names = (f"--input={images}", f"--output={output}")
    return Command("build_image_db", (f"--save_path={DATA}/para/model.ep0", *names, *more))


def _train(*more: str) -> Command:
    return Command("train", (f"--save_path={DATA}/para/", "--epoch=2", *SMALL, *more))


SAMPLE = ("--images=8", "--others=1", "--surveillance=3", "--width=72", "--height=48")
SPLIT = ("--ratio=4", f"--min_len={IMAGES}")
MIPS, NNS = (
    Command("process_data.mips", ("--k=5",)),
    Command("process_data.nns", ("--dimension=4",)),
)
MIPS_VALID = Command("process_data.mips", ("--k=5", "--isValid=1"))
MASKS = Command("process_data.mask_data")
MAKE_SPLIT = Command("process_data.make_train_valid", SPLIT)
OTHER_SPLIT = Command("process_data.make_train_valid", (*SPLIT, "--seed=8"))
SHEET, SUMMARY = Command("process_data.contact_sheet"), Command("process_data.summary")
REPORT = Command("process_data.report", ("--device=cpu",))
ENCODE = _encode("imageset.npy", "database.npy")
MATRIX = Command("process_data.image_matrix", (f"--image_resolution={SIDE}",))
TEST_MATRIX = Command(
    "process_data.image_matrix", (*SV, "--mname=test_image.npy", f"--image_resolution={SIDE}")
)
SEARCH = Command(
    "process_data.search",
    (f"--save_path={DATA}/para/model.ep0", f"--image={DATA}/photos/red", "--device=cpu"),
)
TRANSFORMED = Command(
    "process_data.mips",
    ("--k=5", "--database=database_t.npy", "--test_matrix=tdatabase_t.npy", "--run=white"),
)

# In the order of the pipeline.
CASES = (
    Case("compcars.sample", Command("compcars.sample", ("--models=6", "--workers=1", *SAMPLE))),
    Case("compcars.data_info", Command("compcars.data_info"), readers=(MATRIX, MAKE_SPLIT)),
    Case(
        "compcars.test_data_info",
        Command("compcars.test_data_info"),
        (Command("compcars.test_data_info", ("--split=test",)),),
        (TEST_MATRIX, MASKS),
    ),
    Case(
        "process_data.data_info",
        Command("process_data.data_info"),
        (Command("process_data.data_info", ("--image_root_path=fewer/",)),),
        (
            Command(
                "process_data.image_matrix",
                ("--image_info=indexinfo.csv", "--image_root_path=photos/", "--mname=own.npy"),
            ),
        ),
    ),
    Case(
        "process_data.image_matrix",
        MATRIX,
        (Command("process_data.image_matrix", (*MATRIX.options, "--filter_type=Black")),),
        (ENCODE, Command("process_data.audit")),
    ),
    Case(
        "image_matrix (test)",
        TEST_MATRIX,
        (Command("process_data.image_matrix", (*TEST_MATRIX.options, "--filter_type=Black")),),
        (_encode("test_image.npy", "tdatabase.npy"),),
    ),
    Case(
        "process_data.make_train_valid",
        MAKE_SPLIT,
        (OTHER_SPLIT,),
        (MASKS, MIPS_VALID, _train("--seed=9", "--epoch=1")),
    ),
    Case(
        "train",
        _train("--resume=auto"),
        readers=(ENCODE,),
    ),
    Case(
        "build_image_db", ENCODE, (_encode("imageset.npy", "database.npy", "--tta=flip"),), (MIPS,)
    ),
    Case(
        "build_image_db (test)",
        _encode("test_image.npy", "tdatabase.npy"),
        (_encode("test_image.npy", "tdatabase.npy", "--tta=flip"),),
        (MIPS,),
    ),
    Case(
        "process_data.transform",
        Command("process_data.transform"),
        (Command("process_data.transform", ("--power=0.3",)),),
        (TRANSFORMED,),
    ),
    Case(
        "process_data.mask_data",
        MASKS,
        (OTHER_SPLIT, MASKS, MAKE_SPLIT),
        (MIPS, MIPS_VALID, NNS),
    ),
    Case(
        "process_data.mips",
        MIPS,
        (Command("process_data.mips", ("--k=5", "--qe=2")),),
        (SHEET, REPORT, SUMMARY, Command("process_data.compare", ("mips-test", "pixels-test"))),
    ),
    Case(
        "mips (validation)", MIPS_VALID, (Command("process_data.mips", ("--k=4", "--isValid=1")),)
    ),
    Case(
        "process_data.nns",
        NNS,
        (Command("process_data.nns", ("--dimension=4", "--seed=8")),),
        (Command("process_data.nns", ("--dimension=4", "--k=4")), SHEET, SUMMARY),
    ),
    Case(
        "process_data.baselines",
        Command("process_data.baselines", ("--k=5",)),
        (Command("process_data.baselines", ("--k=4",)),),
        (SUMMARY,),
    ),
    Case("process_data.contact_sheet", SHEET, (Command("process_data.contact_sheet", ("--k=3",)),)),
    Case(
        "process_data.audit",
        Command("process_data.audit"),
        (Command("process_data.audit", ("--distance=30", "--similarity=0.5")),),
    ),
    Case(
        "process_data.report",
        REPORT,
        (Command("process_data.report", ("--device=cpu", "--title=before")),),
    ),
    Case(
        "process_data.export_onnx",
        Command("process_data.export_onnx", (f"--save_path={DATA}/para/model.ep0",)),
        (Command("process_data.export_onnx", (f"--save_path={DATA}/para/model.ep1",)),),
    ),
    Case(
        "process_data.calibrate",
        Command("process_data.calibrate"),
        readers=(SEARCH,),
    ),
    Case(
        "process_data.search",
        SEARCH,
        (Command("process_data.search", (*SEARCH.options, "--k=3")),),
    ),
    Case("process_data.compare", Command("process_data.compare", ("mips-test", "nns-test"))),
    Case("process_data.summary", SUMMARY),
    Case(
        "train (resumed)",
        Command("train", (f"--save_path={DATA}/para/", "--epoch=3", "--resume=auto")),
        is_built=False,
    ),
)


def case_of(name: str) -> Case:
    """Return the case of a name."""
    return next(case for case in CASES if case.name == name)
