"""Scenes hold what they promise: few objects, visible, of very different sizes, in company."""

from __future__ import annotations

import numpy as np
import pytest

from mlrec.datasets.readers.scenes import CLASSES, COMPANIONS, LEAST_PIXELS, LEAST_VISIBLE, Scene, draw_scene


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(np.random.default_rng([7, k])) for k in range(200)]


def test_equal_generators_draw_equal_scenes() -> None:
    first, again = (draw_scene(np.random.default_rng(3)) for _ in range(2))
    other = draw_scene(np.random.default_rng(4))
    assert first.image.tobytes() == again.image.tobytes()
    assert [o.label for o in first.objects] == [o.label for o in again.objects]
    assert first.image.tobytes() != other.image.tobytes()


def test_one_to_five_objects_each_seen_for_the_greater_part(scenes: list[Scene]) -> None:
    assert {len(scene.objects) for scene in scenes} == {1, 2, 3, 4, 5}
    for scene in scenes:
        assert scene.image.dtype == np.uint8
        assert scene.image.shape[2] == 3
        for thing in scene.objects:
            assert thing.mask.shape == scene.image.shape[:2]
            assert thing.mask.sum() >= max(LEAST_VISIBLE * thing.area, LEAST_PIXELS)


def test_no_pixel_belongs_to_two_objects(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert np.sum([thing.mask for thing in scene.objects], axis=0).max() == 1


def test_a_mask_lies_where_the_picture_shows_the_object() -> None:
    """A striped object alternates between a dark and a light color: its pixels vary more than the ground's clouds."""
    contrasts = []
    for k in range(60):
        scene = draw_scene(np.random.default_rng([1, k]))
        grey = scene.image.mean(axis=2)
        contrasts += [grey[thing.mask].std() - grey[~thing.mask].std() for thing in scene.objects]
    assert np.mean(contrasts) > 5


def test_every_class_occurs_some_more_often_than_others(scenes: list[Scene]) -> None:
    counts = np.bincount([o.label for scene in scenes for o in scene.objects], minlength=len(CLASSES))
    assert len(CLASSES) == 12
    assert counts.min() > 0
    assert counts.max() > 2 * counts.min()


def test_sizes_differ_widely(scenes: list[Scene]) -> None:
    areas = [thing.area for scene in scenes for thing in scene.objects]
    assert np.quantile(areas, 0.95) > 10 * np.quantile(areas, 0.05)


def test_classes_keep_company(scenes: list[Scene]) -> None:
    present = np.array([np.isin(np.arange(12), [o.label for o in scene.objects]) for scene in scenes])

    def lift(step: int) -> float:
        """How much more often a class and the one `step` places on meet than if they did not know each other."""
        after = np.roll(present, -step, axis=1)
        return float((present & after).mean() / (present.mean(axis=0) * after.mean(axis=0)).mean())

    assert min(lift(step) for step in COMPANIONS) > 2 * max(lift(step) for step in (2, 3, 6))


def test_some_scenes_hold_a_class_twice(scenes: list[Scene]) -> None:
    assert any(len({o.label for o in scene.objects}) < len(scene.objects) for scene in scenes)
