"""Any image becomes an upright RGB square with its aspect kept."""

import io
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFilter

from retrieval.data import decode, image_formats
from retrieval.data.pixel_budget import PixelBudget

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def halves(width: int, height: int) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def test_aspect_is_kept_and_the_image_centered(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", halves(80, 40))
    square = decode.load_square(path, 40, "Black")
    assert square.shape == (40, 40, 3)
    assert square.dtype == np.uint8
    assert not square[:10].any()
    assert not square[30:].any()
    np.testing.assert_array_equal(square[10:30, 5], np.tile(RED, (20, 1)))
    np.testing.assert_array_equal(square[10:30, 35], np.tile(BLUE, (20, 1)))
    assert (decode.load_square(path, 40, "White")[:10] == 255).all()


def test_gaussian_borders_continue_the_edge(tmp_path: Path) -> None:
    square = decode.load_square(save(tmp_path / "a.png", halves(80, 40)), 40, "Gaussian")
    assert square[2, 3, 0] > 200 > 50 > square[2, 3, 2]  # red over red
    assert square[2, 36, 2] > 200 > 50 > square[2, 36, 0]  # blue over blue
    assert 60 < square[0, 20, 0] < 195  # blurred in between


@pytest.mark.parametrize("size", [(480, 320), (300, 480), (448, 446)])
def test_borders_look_as_if_blurred_at_full_size(tmp_path: Path, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)).resize(size)
    square = decode.load_square(save(tmp_path / "a.png", smooth), 224)
    black = decode.load_square(save(tmp_path / "a.png", smooth), 224, "Black")
    rows, columns = np.flatnonzero(black.any((1, 2))), np.flatnonzero(black.any((0, 2)))
    picture = black[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    before = rows[0], columns[0]
    after = 223 - rows[-1], 223 - columns[-1]
    continued = np.pad(picture, [*zip(before, after, strict=True), (0, 0)], mode="edge")
    blurred = np.asarray(Image.fromarray(continued).filter(ImageFilter.GaussianBlur(14)))
    is_border = np.ones((224, 224), bool)
    is_border[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = False
    assert is_border.any()
    assert np.abs(square[is_border].astype(int) - blurred[is_border]).mean() < 4
    np.testing.assert_array_equal(square[~is_border], black[~is_border])


def test_extreme_sizes(tmp_path: Path) -> None:
    for size in ((1000, 10), (10, 1000), (1, 1), (3, 3), (1, 30_000), (30_000, 1)):
        path = save(tmp_path / "a.png", Image.new("RGB", size, GREEN))
        for fill in decode.FILLS:
            square = decode.load_square(path, 16, fill)
            assert square.shape == (16, 16, 3), (size, fill)
            if fill == decode.FILLS[0]:  # continues the photo
                np.testing.assert_array_equal(square[8, 8], GREEN, str(size))


def test_scaled_decoding_is_close_to_full_decoding(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (12, 18, 3), np.uint8)).resize((720, 480))
    jpeg = decode.load_square(save(tmp_path / "a.jpg", smooth, quality=95), 64, "Black")
    exact = decode.load_square(save(tmp_path / "a.png", smooth), 64, "Black")
    assert np.abs(jpeg.astype(int) - exact).mean() < 3


def test_exif_rotation_is_honored_and_boxes_are_as_displayed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: left becomes top
    path = save(tmp_path / "a.jpg", halves(640, 320), exif=exif, quality=95)
    square = decode.load_square(path, 64, "Black")
    assert square[10, 32, 0] > 200  # red on top
    assert square[54, 32, 2] > 200  # blue below
    top = decode.load_square(path, 64, "Black", box=(0, 0, 320, 320))
    assert top[..., 0].min() > 200


def test_a_box_is_cut_out_of_a_jpeg_decoded_small(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", halves(1600, 800), quality=95)
    square = decode.load_square(path, 32, "Black", box=(900, 100, 1500, 700))
    assert square[..., 2].min() > 200
    assert square[..., 0].max() < 60


def test_every_mode_comes_out_as_rgb(tmp_path: Path) -> None:
    for mode in ("L", "CMYK", "P", "1", "YCbCr", "I;16", "LA", "RGBA"):
        if mode == "I;16":
            image = Image.fromarray(np.full((8, 8), 65535, np.uint16))
        else:
            image = Image.new("RGB", (8, 8), "white").convert(mode)
        suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
        square = decode.load_square(save(tmp_path / f"a.{suffix}", image), 8)
        assert square.shape == (8, 8, 3) and square.min() > 250, mode


def test_gray_of_any_range_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for values, expected in (
        (np.float32([0, 0.5, 1, np.nan]), [0, 128, 255, 0]),
        (np.float32([0, 100, 255, np.inf]), [0, 100, 255, 0]),
        (np.float32([0, 65535, 32768, 0]), [0, 255, 128, 0]),
        (np.float32([-1, 0, 1, 1]), [0, 128, 255, 255]),
        (np.float32([-3, -3, -3, -3]), [0, 0, 0, 0]),
        (np.int32([0, 65535, 257, 255]), [0, 255, 1, 0]),
        (np.int32([0, 1 << 20, 1 << 19, 0]), [0, 255, 127, 0]),
        (np.uint16([0, 255, 128, 1]), [0, 255, 128, 1]),
    ):
        Image.fromarray(np.repeat(np.repeat(values.reshape(2, 2), 8, 0), 8, 1)).save(path)
        square = decode.load_square(path, 16)
        assert square[[4, 4, 12, 12], [4, 12, 4, 12], 0].tolist() == expected
        assert (square == square[..., :1]).all()


def test_transparency_is_white(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.new("RGBA", (8, 8), (255, 0, 0, 0)))
    assert decode.load_square(path, 8).min() == 255


def test_what_cannot_be_read_raises(tmp_path: Path) -> None:
    truncated = save(tmp_path / "a.jpg", halves(64, 64)).read_bytes()[:-200]
    for content in (b"", b"no image", truncated, None):
        path = tmp_path / f"{content is None}.jpg"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(decode.UnreadableImage):
            decode.load_square(path, 64)


@pytest.mark.parametrize("form", ["png", "webp", "jpg"])
def test_broken_exif_costs_nothing_but_the_orientation(tmp_path: Path, form: str) -> None:
    image, how = halves(64, 32), {"lossless": True} if form == "webp" else {}
    plain = decode.load_square(save(tmp_path / f"b.{form}", image, **how), 16)
    for exif in (b"Exif\0\0" + b"\xff" * 40, b"", b"Exif\0\0MM\0*\0\0"):
        path = save(tmp_path / f"a.{form}", image, exif=exif, **how)
        np.testing.assert_array_equal(decode.load_square(path, 16), plain, str(exif))


def _orientation_in(data: bytes) -> object:
    exif = Image.Exif()
    exif.load(data)
    return exif[ExifTags.Base.Orientation]


def test_an_orientation_of_a_wrong_type_is_none(tmp_path: Path) -> None:
    entry = b"\x01\x12" + b"\0\x02" + b"\0\0\0\x02" + b"6\0\0\0"  # Orientation as text
    exif = b"Exif\0\0" + b"MM\0*\0\0\0\x08" + b"\0\x01" + entry + bytes(4)
    assert isinstance(_orientation_in(exif), str)
    halves(64, 32).save(tmp_path / "a.jpg", exif=exif)
    halves(64, 32).save(tmp_path / "b.jpg")
    np.testing.assert_array_equal(*(decode.load_square(tmp_path / f"{n}.jpg", 16) for n in "ab"))


def test_a_picture_beyond_the_budget_is_named(tmp_path: Path) -> None:
    Image.new("L", (1200, 1000)).save(tmp_path / "a.png")
    Image.new("L", (1200, 1000)).save(tmp_path / "a.jpg")
    budget = PixelBudget(1)
    with pytest.raises(decode.UnreadableImage, match=r"1\.2 megapixels to decode; at most 1"):
        decode.load_square(tmp_path / "a.png", 16, budget=budget)
    decode.load_square(tmp_path / "a.jpg", 16, budget=budget)  # decoded at an eighth of the scale


def test_threads_wait_for_pixels() -> None:
    budget, running, most = PixelBudget(1), list[int](), list[int]()

    def decode_one(n_pixel: int) -> None:
        with budget.hold(n_pixel):
            running.append(n_pixel)
            most.append(sum(running))
            time.sleep(0.002)
            running.remove(n_pixel)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode_one, [400_000] * 20))
    assert max(most) == 800_000


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(decode.UnreadableImage, match="not a file"):
        decode.load_square(tmp_path / "a.jpg", 16)


def test_what_looks_like_a_photo_starts_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EPS is a program, which Pillow would give to Ghostscript."""
    script = tmp_path / "gs"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    text = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n{} loop\n"
    (tmp_path / "a.jpg").write_text(text)
    with pytest.raises(decode.UnreadableImage):
        decode.load_square(tmp_path / "a.jpg", 16)
    assert not (tmp_path / "started").exists()


def test_formats_that_are_no_photographs_are_not_opened(tmp_path: Path) -> None:
    for kind in ("EPS", "ICO", "TGA", "DDS", "PCX", "SGI", "PDF"):
        Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", kind)
        with pytest.raises(decode.UnreadableImage, match="it is not one of JPEG, PNG"):
            decode.load_square(tmp_path / "a.jpg", 8)
    assert not image_formats.image_suffixes() & {".eps", ".ps", ".ico", ".pdf", ".psd", ".wmf"}


def test_formats_of_photographs_are_opened(tmp_path: Path) -> None:
    for kind in image_formats.photo_formats():
        Image.new("RGB", (64, 64), RED).save(tmp_path / "a.bin", kind)
        square = decode.load_square(tmp_path / "a.bin", 8).astype(int)
        assert np.abs(square - RED).max() < 8, kind


def test_a_heic_photo_that_is_named_jpg_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with (
        pytest.raises(decode.UnreadableImage, match="pip install pillow-heif"),
        decode.opened(tmp_path / "a.jpg", image_formats.PHOTO_FORMATS),
    ):
        pass


def test_several_pictures_of_a_phone_in_one_jpeg(tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 64), RED)
    image.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[image] * 2)
    assert decode.load_square(tmp_path / "a.jpg", 8).min(axis=(0, 1)).tolist()[0] > 200


def scans(image: Image.Image, count: int) -> bytes:
    """Return a progressive JPEG whose second scan, of a few bytes, is there many times."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    first, second = (m.start() for m in list(re.finditer(b"\xff\xda", content))[1:3])
    begin = content.rindex(b"\xff\xc4", 0, first)
    return content[:first] + content[first:second] + content[begin:second] * count + b"\xff\xd9"


def test_a_jpeg_that_is_gone_over_without_end_is_refused() -> None:
    image = Image.new("L", (64, 64), 128)
    with pytest.raises(decode.UnreadableImage, match=r"\d{4} scans; at most 200"):
        decode.load_square(io.BytesIO(scans(image, 5000)), 16)
    assert decode.load_square(io.BytesIO(scans(image, 20)), 16).min() > 120
    # What follows the picture, such as the film of a moving photo, is none of its scans.
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    film = buffer.getvalue() + b"\xff\xda\0\x02" * 5000
    assert decode.load_square(io.BytesIO(film), 16).min() > 120


def test_images_that_are_decoded_in_python_are_refused(tmp_path: Path) -> None:
    for head in (b"P3 8 8 255\n", b"P1 8 8\n", b"P6 8 8 254\n"):
        (tmp_path / "a.ppm").write_bytes(head + b"1 " * 192)
        with pytest.raises(decode.UnreadableImage, match="save it as PNG"):
            decode.load_square(tmp_path / "a.ppm", 8)


def test_a_progressive_jpeg_counts_with_all_its_pixels(tmp_path: Path) -> None:
    Image.new("L", (1200, 1000)).save(tmp_path / "a.jpg", progressive=True)
    with pytest.raises(decode.UnreadableImage, match="megapixels"):
        decode.load_square(tmp_path / "a.jpg", 16, budget=PixelBudget(1))
