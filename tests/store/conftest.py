"""Stores to test, each empty: LanceDB, Milvus Lite, and a Milvus server where one can start."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retrieval.data.formats import InputError
from retrieval.store.backends import open_store
from retrieval.store.base import EXACT_ROWS, ImageStore
from tests.store.drawn_rows import COLLECTION

Opener = Callable[..., ImageStore]


@pytest.fixture
def opener(store_name: str, tmp_path: Path) -> Iterator[Callable[..., ImageStore]]:
    """A function that opens the store of a test; the first call creates it."""
    opened: list[ImageStore] = []

    def open_it(create: bool = True, exact_rows: int = EXACT_ROWS) -> ImageStore:
        collection = COLLECTION if create else None
        opened.append(open_store(tmp_path, store_name, collection, exact_rows))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(opener: Opener) -> ImageStore:
    return opener()


def one_line(error: pytest.ExceptionInfo[InputError], *words: str) -> None:
    """Check that an error is one line that has some words."""
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text
