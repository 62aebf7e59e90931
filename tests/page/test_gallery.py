"""Which images a gallery shows, and how large."""

import numpy as np
import pytest

from idm_ray.formats.opening import read_set
from idm_ray.page import gallery
from idm_ray.page.gallery import Shown, choose_zoom, make_gallery
from idm_ray.results.pictures import to_uint8
from tests.page.making import pixels_of, write_set


@pytest.fixture
def shown(tmp_path):
    """A set in a gallery."""

    def make(title="", **changes):
        write_set(tmp_path / "condensed.parquet", **changes)
        stored = read_set(str(tmp_path / "condensed.parquet"))
        return Shown(title=title, stored=stored, neighbours={})

    return make


@pytest.mark.parametrize("width", [4, 8, 28, 32, 64, 96, 224])
@pytest.mark.parametrize("partition", [1, 2, 3])
def test_images_are_enlarged_by_whole_numbers_to_a_size_that_can_be_seen(width, partition):
    zoom = choose_zoom(width, partition)
    assert 80 <= width * zoom < max(80, width) + partition * width
    # So are the pixels of real images that stand for a tile, but for those of large images.
    assert zoom == 1 or zoom % partition == 0


def test_every_pixel_of_a_set_is_shown_as_it_is_rounded(shown):
    one = shown()
    made, left_out = make_gallery([one])
    card = one.stored.card
    expected = to_uint8(one.stored.images, mean=card.mean, std=card.std)
    found = [pixels_of(p.source) for panel in made.panels for p in panel.blocks[0].pictures]
    assert np.array_equal(np.stack(found), expected.transpose(0, 2, 3, 1))
    assert left_out == ()
    assert [panel.name for panel in made.panels] == list(card.class_names)
    assert not made.shows_all


def test_sets_of_a_comparison_stand_side_by_side_class_by_class(shown):
    sets = [shown("dm", class_names=("cat", "dog")), shown("idm", class_names=("dog", "emu"))]
    made, _ = make_gallery(sets)
    titles = {panel.name: [block.title for block in panel.blocks] for panel in made.panels}
    assert titles == {"cat": ["dm"], "dog": ["dm", "idm"], "emu": ["idm"]}
    assert made.panels[1].blocks[1].pictures[0].alt == "condensed dog, image 1, idm"


@pytest.mark.parametrize(
    ("budget", "classes", "each", "told"),
    [
        (6 * 48, 3, 2, None),
        (6 * 48 - 1, 3, 1, "the first 1 of 2 images per class. The file"),
        (2 * 48, 2, 1, "the first 1 of 2 images per class in the first 2 of 3 classes."),
        (1, 1, 1, "in the first 1 of 3 classes"),
    ],
)
def test_what_does_not_fit_is_left_out_and_told_of(shown, monkeypatch, budget, classes, each, told):
    monkeypatch.setattr(gallery, "_BUDGET_BYTES", budget)
    made, left_out = make_gallery([shown()])
    assert len(made.panels) == classes
    assert {len(panel.blocks[0].pictures) for panel in made.panels} == {each}
    assert (told is None and left_out == ()) or told in left_out[0]
