"""Reads a page of ours as a strict browser would, and checks that it stands alone."""

from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "br", "input", "hr", "path", "use", "rect", "image"}
LOADS = {"src", "href", "xlink:href", "data", "action", "poster", "srcset"}


class Page(HTMLParser):
    """A page, or an AssertionError if its elements are not closed in order.

    Attributes:
        count: How many elements of each name it has.
        ids: All ids, in order.
        links: Every value of an attribute that loads or leads somewhere.
        text: All text outside of scripts and styles, with single spaces.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID or "svg" in self.open:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in LOADS:
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)


def read_page(path: Path) -> Page:
    """Read a page that must be well-formed and must not reach for anything outside itself."""
    raw = path.read_text(encoding="utf-8")
    page = Page(raw)
    assert raw.startswith("<!doctype html>")
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        assert link.startswith(("#", "data:")), link[:80]
        assert not link.startswith("#") or link[1:] in page.ids, link
    assert "@import" not in raw
    assert page.count["script"] == 1
    return page
