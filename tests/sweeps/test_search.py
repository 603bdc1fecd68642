"""A search finds what a grid would, and says the same from the same facts."""

from __future__ import annotations

import math
from typing import Any

from mlrec.sweeps.search import proposals

AXES: dict[str, list[Any]] = {
    "lr": [1e-4, 1.0],
    "heads": [1, 8],
    "head": ["csra", "average"],
    "normalize": [True, False],
}


def value(settings: dict[str, Any]) -> float:
    """Highest at lr 0.01 with a csra head."""
    return 0.9 - 0.1 * abs(math.log10(settings["lr"]) + 2) - 0.2 * (settings["head"] != "csra")


def test_a_search_comes_near_the_peak_and_stays_within_its_ranges() -> None:
    told: list[tuple[dict[str, Any], float]] = []
    for _ in range(15):
        told += [(settings, value(settings)) for settings in proposals(AXES, told, 2)]
    assert len({repr(settings) for settings, _ in told}) == 30
    for settings, _ in told:
        assert 1e-4 <= settings["lr"] <= 1.0
        assert settings["heads"] in range(1, 9)
        assert float(f"{settings['lr']:.3g}") == settings["lr"]
        assert list(settings) == list(AXES)
    assert max(worth for _, worth in told) > 0.85
    assert sum(settings["head"] == "csra" for settings, _ in told[15:]) > 10


def test_equal_results_give_equal_proposals() -> None:
    told = [(settings, value(settings)) for settings in proposals(AXES, [], 4)]
    assert proposals(AXES, told, 3) == proposals(AXES, told, 3)


def test_proposals_are_exhausted_and_running_trials_are_not_proposed_again() -> None:
    assert len(proposals({"normalize": [True, False]}, [], 5)) == 2
    running = [{"normalize": True}]
    assert proposals({"normalize": [True, False]}, [], 5, running) == [{"normalize": False}]
