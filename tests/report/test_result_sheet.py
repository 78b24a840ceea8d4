"""Letters under the pictures."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest

from retrieval.report import result_sheet


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    result_sheet._cjk_font.cache_clear()
    yield
    result_sheet._cjk_font.cache_clear()


def test_chinese_names_are_drawn_in_a_font_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    fonts = Path(matplotlib.get_data_path()) / "fonts"
    monkeypatch.setattr(result_sheet, "FONT_FOLDERS", (str(fonts),))
    monkeypatch.setattr(result_sheet, "CJK", ("absent", "DejaVuSerif."))
    assert result_sheet._cjk_font() == str(fonts / "ttf" / "DejaVuSerif.ttf")
    plain, chinese = (result_sheet._name_font(name).getmask("A") for name in ("ab", "\u5954\u9a70"))
    assert plain.size != chinese.size or bytes(plain) != bytes(chinese)


def test_greek_names_are_drawn() -> None:
    missing = result_sheet._name_font("A").getmask("\u4e00")  # a box in either font
    found = result_sheet._name_font("\u03c0").getmask("\u03c0")
    assert found.size != missing.size or bytes(found) != bytes(missing)
    assert result_sheet._name_font("\u03c0").getname()[0] == "DejaVu Sans"


def test_without_such_a_font_names_are_drawn_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_sheet, "FONT_FOLDERS", ())
    assert result_sheet._cjk_font() is None
    assert result_sheet._name_font("\u5954\u9a70").getmask("A").size[0] > 0


def test_letters_that_no_font_has_are_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(result_sheet, "_cjk_font", lambda: None)
    result_sheet._warn_of_missing_font.cache_clear()
    names = {
        "Zamil \u98ce\u9a70Zamil S6": "Zamil Zamil S6",
        "\u5954\u9a70": "?",
        "Lotus \u03c0": "Lotus \u03c0",
    }
    for name, shown in names.items():
        assert result_sheet.legible(name) == shown
    assert len(caplog.records) == 1
    monkeypatch.setattr(result_sheet, "_cjk_font", lambda: "font")
    assert result_sheet.legible("\u5954\u9a70") == "\u5954\u9a70"
