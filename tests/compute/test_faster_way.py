"""The faster of two ways, as their seconds change."""

from retrieval.compute.faster_way import MOST_TURNS, FasterWay


def tries(faster: FasterWay, seconds: tuple[float, float], calls: int) -> list[int]:
    """Return the ways that were taken, where each takes its seconds."""
    taken = []
    for _ in range(calls):
        taken.append(faster.next())
        faster.took(taken[-1], seconds[taken[-1]])
    return taken


def test_the_slower_way_is_tried_less_and_less_often() -> None:
    faster = FasterWay()
    taken = tries(faster, (1.0, 3.0), 10_000)
    assert faster.best == 0
    assert taken.index(1) == 8
    assert 5 < sum(taken) < 10_000 / MOST_TURNS + 10


def test_a_change_is_found_in_a_few_calls_and_back_again() -> None:
    faster = FasterWay()
    tries(faster, (1.0, 1.5), 1000)
    for slow, best in ((7.0, 1), (1.0, 0)):
        tries(faster, (slow, 1.5), 12)
        assert faster.best == best
