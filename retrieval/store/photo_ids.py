"""Find the photos that are new to a store, and give them ids."""

from collections.abc import Iterable

from retrieval.store.base import ImageStore
from retrieval.store.filters import Filter
from retrieval.store.rows import next_id, photo_id


def new_photo_ids(store: ImageStore, sha256s: Iterable[str]) -> dict[str, int]:
    """Return the id of each photo that the store does not have, in the order given.

    Args:
        store: The store.
        sha256s: Hashes of image files.
    """
    wanted = list(dict.fromkeys(sha256s))
    there = store.get(store.ids(Filter(sha256s=frozenset(wanted)))) if wanted else []
    known = {row.sha256 for row in there}
    ids = {sha256: photo_id(sha256) for sha256 in wanted if sha256 not in known}
    while True:  # until no id is that of another photo
        taken = {row.id: row.sha256 for row in store.get(ids.values())}
        # Another writer may have added it in between.
        ids = {sha256: number for sha256, number in ids.items() if taken.get(number) != sha256}
        clashing = [sha256 for sha256, number in ids.items() if number in taken]
        clashing += _repeated(ids)
        if not clashing:
            return ids
        for sha256 in clashing:
            ids[sha256] = next_id(ids[sha256])


def _repeated(ids: dict[str, int]) -> list[str]:
    """Return the photos whose id an earlier one has."""
    first = {number: sha256 for sha256, number in reversed(ids.items())}
    return [sha256 for sha256, number in ids.items() if first[number] != sha256]
