"""Letters under the pictures."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest

from retrieval import pictures


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    pictures._cjk_font.cache_clear()
    yield
    pictures._cjk_font.cache_clear()


def test_chinese_names_are_drawn_in_a_font_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    found = [fonts / "DejaVuSans.ttf", fonts / "DejaVuSerif.ttf"]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: map(str, found))
    monkeypatch.setattr(pictures, "CJK", ("absent", "DejaVuSerif"))
    assert pictures._cjk_font() == str(found[1])
    plain, chinese = (pictures._name_font(name).getmask("A") for name in ("ab", "\u5954\u9a70"))
    assert plain.size != chinese.size or bytes(plain) != bytes(chinese)


def test_greek_names_are_drawn() -> None:
    missing = pictures._name_font("A").getmask("\u4e00")  # a box in either font
    found = pictures._name_font("\u03c0").getmask("\u03c0")
    assert found.size != missing.size or bytes(found) != bytes(missing)
    assert pictures._name_font("\u03c0").getname()[0] == "DejaVu Sans"


def test_without_such_a_font_names_are_drawn_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", list)
    assert pictures._cjk_font() is None
    assert pictures._name_font("\u5954\u9a70").getmask("A").size[0] > 0
