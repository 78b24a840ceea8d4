"""Self-contained HTML pages from templates, with the pictures inside."""

import base64
from pathlib import Path

import numpy as np
from PIL import Image

from retrieval.data import files, jpeg
from retrieval.data.formats import InputError

TEMPLATES = Path(__file__).with_name("templates")
MAX_BYTES = 10_000_000  # larger pages are hard to mail


def write_page(path: Path, template: str, **content: object) -> Path:
    """Fill a template and write the page, whole or not at all.

    Args:
        path: The page.
        template: Name of a file in ``templates``, named like its page.
        content: Values of the template. Texts are escaped: names and paths of images come from
            outside.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise InputError("a page takes Jinja2; install it: pip install jinja2") from None
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(template).render(**content)
    size = len(text.encode("utf-8", "replace"))
    if size > MAX_BYTES:
        raise InputError(
            f"{path.name} would have {size / 1e6:.0f} MB, more than the {MAX_BYTES / 1e6:.0f} MB "
            "that a page should have; ask for fewer pictures"
        )
    return files.write_text(path, text.encode("utf-8", "replace").decode("utf-8"))


def picture(pixels: np.ndarray, side: int = 128) -> str:
    """Return an image as the data URI of a JPEG of at most ``side`` pixels.

    Args:
        pixels: (3, n, n) uint8, RGB.
        side: Larger images are scaled down to it.
    """
    image = jpeg.picture(pixels)
    if image.width > side:
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    content = jpeg.encode_jpeg(image, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")
