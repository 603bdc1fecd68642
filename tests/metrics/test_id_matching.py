"""Ids of predictions and of samples, matched by the end of their paths, against brute force."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlrec.metrics.id_matching import rows_of
from mlrec.utils.errors import PredictionsError


@pytest.mark.parametrize(
    ("samples", "predicted", "rows"),
    [
        (["a.jpg", "b.jpg"], ["photos/b.jpg", "/data/photos/a.jpg"], [1, 0]),
        (["Image/a.jpg", "Image/b.jpg"], ["b.jpg", "./photos/../Image/a.jpg"], [1, 0]),
        (["x/a.jpg", "y/a.jpg"], ["in/y/a.jpg", "in/x/a.jpg"], [1, 0]),
        (["a.jpg", "x/a.jpg"], ["x/a.jpg", "a.jpg"], [1, 0]),
        (["p/a.jpg#0", "p/a.jpg#1"], ["a.jpg#1", "q\\p\\a.jpg#0"], [1, 0]),
        (["p/a.jpg"], ["p\\a.jpg"], [0]),
    ],
)
def test_ends_of_paths(samples: list[str], predicted: list[str], rows: list[int]) -> None:
    assert rows_of(samples, predicted, "p.csv").tolist() == rows


@pytest.mark.parametrize(
    ("samples", "predicted", "told"),
    [
        (
            ["x/a.jpg", "y/a.jpg"],
            ["a.jpg", "y/a.jpg"],
            "'a.jpg' matches multiple samples ('x/a.jpg', 'y/a.jpg'); use a longer",
        ),
        (
            ["a.jpg", "x/a.jpg"],
            ["in/x/a.jpg", "in/a.jpg"],
            "'in/x/a.jpg' matches multiple samples ('x/a.jpg', 'a.jpg')",
        ),
        (
            ["a.jpg"],
            ["x/a.jpg", "y/a.jpg"],
            "'a.jpg' is scored twice, as 'x/a.jpg' and 'y/a.jpg'; keep only one of them",
        ),
        (["a.jpg", "b.jpg"], ["x/a.jpg"], "no prediction for 1 of 2 samples (first: 'b.jpg')"),
        (["a.jpg"], ["ba.jpg"], "no matching sample for 1 of 1 predictions (first: 'ba.jpg')"),
        (["x/a.jpg"], ["y/a.jpg"], "no matching sample for 1 of 1 predictions"),
    ],
)
def test_ids_that_do_not_match_one_to_one_are_refused(samples: list[str], predicted: list[str], told: str) -> None:
    with pytest.raises(PredictionsError) as caught:
        rows_of(samples, predicted, "p.csv")
    assert str(caught.value).startswith(f"p.csv: {told}")


paths = st.lists(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join), min_size=1, max_size=4, unique=True
)


@given(samples=paths, predicted=paths)
def test_by_brute_force(samples: list[str], predicted: list[str]) -> None:
    def fits(one: str, other: str) -> bool:
        return one == other or one.endswith("/" + other) or other.endswith("/" + one)

    options = [[p] if p in samples else [s for s in samples if fits(s, p)] for p in predicted]
    unique = [found[0] for found in options if len(found) == 1]
    if len(unique) == len(predicted) and sorted(unique) == sorted(samples):
        assert [unique[row] for row in rows_of(samples, predicted, "")] == samples
    else:
        with pytest.raises(PredictionsError):
            rows_of(samples, predicted, "")
