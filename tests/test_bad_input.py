"""Images and labels that are not as they should be, on the real command line.

What a single part of the data's reading refuses is tested beside that part; here, what a user is
told, and that a refusal leaves nothing behind.
"""

import io
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.making import jpeg, picture, png, write_class, write_parquet
from tests.making_runs import TINY, as_words, command, pixels

GIVEN = as_words(**{name: TINY[name] for name in TINY if name not in {"data", "limit_per_class"}})


def condensed(tmp_path, *words):
    """How a run on some data ends."""
    places = ("--out", tmp_path / "run", "--cache-dir", tmp_path / "cache")
    return command("condense", *places, *GIVEN, *words)


def refusal(tmp_path, *words):
    """The one line with which it is refused; there is no folder of a run, and no decoded image."""
    outcome = condensed(tmp_path, *words)
    assert (outcome.status, outcome.out) == (2, "")
    assert re.fullmatch(r"idm-ray: [^\n]+\n", outcome.err), outcome.err
    assert not (tmp_path / "run").exists()
    return outcome.err.removeprefix("idm-ray: ").rstrip()


def warnings_of(tmp_path, *words):
    """What a run that comes to its end warns of."""
    outcome = condensed(tmp_path, *words)
    assert outcome.status == 0, outcome.err
    lines = outcome.err.splitlines()
    return [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]


def write_insects(root, *, ants=8, bees=8):
    """Class folders "ant" and "bee"."""
    write_class(root / "ant", ants)
    write_class(root / "bee", bees, first=100)
    return root


# --- What cannot be used at all ---


def nothing(root):
    """No folder."""


def one_class(root):
    write_class(root / "ant", 5)


def a_class_without_images(root):
    write_insects(root)
    (root / "cicada").mkdir()


def images_of_two_sizes(root):
    write_insects(root)
    picture(1, width=9, height=8).save(root / "bee" / "wide.png")


def one_image_of_each_class(root):
    write_insects(root, ants=1, bees=1)


def no_image_that_can_be_read(root):
    for path in write_insects(root).rglob("*.png"):
        path.write_bytes(b"no PNG")


def a_class_name_in_latin_1(root):
    write_insects(root)
    os.rename(os.fsencode(root / "bee"), os.fsencode(root) + b"/abeille m\xe2le")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (nothing, "an existing path, found '.*' .no such file.: give the path of a folder"),
        (Path.mkdir, "expected images .* in class folders or .*, found none: give the folder"),
        (one_class, "two or more classes, found 1 .ant.: give a folder with one folder per class"),
        (a_class_without_images, "found none of class 'cicada': add images, or leave the class"),
        (images_of_two_sizes, "images of one size, found 8x8 and 9x8 .bee/wide.png.: give --size"),
        (one_image_of_each_class, "expected test images, found none: add a val/ or test/ split"),
        (no_image_that_can_be_read, "none of 16 can be read .*ant/0000.png: not an image.: check"),
        (a_class_name_in_latin_1, r"names in UTF-8, found 'abeille m\\udce2le': rename its folder"),
    ],
)
def test_data_that_cannot_be_used_leave_nothing_behind(tmp_path, write, message):
    write(tmp_path / "insects")
    assert re.search(message, refusal(tmp_path, "--data", tmp_path / "insects"))
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.suffix != ".lock"]
    assert kept == []


def test_a_class_name_in_another_encoding_can_be_left_out(tmp_path):
    write_class(tmp_path / "insects" / "wasp", 8)
    a_class_name_in_latin_1(tmp_path / "insects")
    words = ("--data", tmp_path / "insects", "--classes", "wasp,ant")
    assert condensed(tmp_path, *words).status == 0


def test_a_path_in_another_encoding_is_refused_before_anything_is_read(tmp_path):
    message = refusal(tmp_path, "--data", os.fsdecode(b"m\xe2le"))
    assert message == r"data must be text in UTF-8, got 'm\udce2le'"


class Planted:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_is_called_parquet_is_never_executed(tmp_path):
    file = tmp_path / "set.parquet"
    file.write_bytes(pickle.dumps(Planted(tmp_path / "made")))
    assert re.search(
        r"a parquet file, found .* unreadable \(.*\): copy", refusal(tmp_path, "--data", file)
    )
    evaluated = command("evaluate", file, "--data", "digits", "--local")
    assert evaluated.status == 2
    assert "expected a Parquet file, found another or only a part of one" in evaluated.err
    assert not (tmp_path / "made").exists()


# --- Images of all kinds among good ones ---


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def usable():
    """Files of 8x8 pixels, by name, that are brought to 8 bits of grey or colour."""
    upright = Image.Exif()
    upright[0x0112] = 6
    palette = picture(3).quantize(16)
    return {
        "cmyk.jpg": encoded(picture(1).convert("CMYK"), "JPEG"),
        "wide.png": png(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)),
        "grey.png": png(picture(2, mode="L")),
        "palette.png": png(palette),
        "a_clear_colour.png": encoded(palette, "PNG", transparency=3),
        "clear_colours.png": encoded(palette, "PNG", transparency=bytes(range(0, 256, 16))),
        "rgba.png": png(picture(4, mode="RGBA")),
        "rotated.jpg": encoded(picture(5), "JPEG", exif=upright),
    }


def unusable():
    """Those that are left out, each with what is told of it."""
    return {
        "cut.jpg": (jpeg(picture(6, width=64, height=64))[:900], "image file is truncated"),
        "empty.png": (b"", "not an image"),
        "text.png": (b"hello", "not an image"),
    }


@pytest.fixture(params=["folders", "parquet"])
def a_mixture(request, tmp_path):
    """The data, and a name of each file in it that cannot be used."""
    good = {f"{number:02d}.png": png(picture(10 + number)) for number in range(8)}
    bad = {name: content for name, (content, _) in unusable().items()}
    ants, bees = good | usable(), good | bad
    if request.param == "folders":
        for name, files in (("ant", ants), ("bee", bees)):
            (tmp_path / "mix" / name).mkdir(parents=True)
            for file, content in files.items():
                (tmp_path / "mix" / name / file).write_bytes(content)
        return tmp_path / "mix", [f"bee/{name}" for name in bad]
    cells, labels = [*ants.values(), *bees.values()], [0] * len(ants) + [1] * len(bees)
    path = write_parquet(tmp_path / "mix.parquet", labels, images=cells, rows_per_group=100)
    first = len(ants) + len(good)
    return path, [f"mix.parquet, row group 0, row {first + number}" for number in range(len(bad))]


def test_what_can_be_converted_is_used_and_the_rest_left_out_by_name(tmp_path, a_mixture):
    data, names = a_mixture
    (warning,) = warnings_of(tmp_path, "--data", data)
    assert warning.startswith("left out 3 unreadable images: cannot read ")
    for name, (_, reason) in zip(names, unusable().values(), strict=True):
        assert f"cannot read {name}: {reason}" in warning
    assert pixels(tmp_path / "run").shape == (2, 3, 8, 8)


def test_strict_refuses_what_cannot_be_used(tmp_path, a_mixture):
    message = refusal(tmp_path, "--data", a_mixture[0], "--strict")
    assert message.startswith("expected only usable images, found 3 that are not (the first: ")
    assert message.endswith("): mend or remove them, or leave out --strict")


def test_of_many_images_that_are_left_out_some_are_named_and_all_counted(tmp_path):
    root = write_insects(tmp_path / "insects", ants=20)
    for number in range(7):
        (root / "ant" / f"{number:04d}.png").write_bytes(b"no PNG")
    (warning,) = warnings_of(tmp_path, "--data", root)
    assert warning.startswith("left out 7 unreadable images: cannot read ant/0000.png: not an ")
    assert warning.endswith("cannot read ant/0004.png: not an image; and 2 more")


def test_an_image_that_may_not_be_read_is_left_out_by_name(tmp_path):
    root = write_insects(tmp_path / "insects")
    (root / "ant" / "0000.png").chmod(0)
    if os.access(root / "ant" / "0000.png", os.R_OK):
        pytest.skip("root may read everything")
    (warning,) = warnings_of(tmp_path, "--data", root)
    assert "cannot read ant/0000.png: " in warning
    assert "Permission denied" in warning


# --- Classes of few images ---


def test_classes_with_fewer_images_than_the_start_needs_are_told_of(tmp_path):
    root = write_insects(tmp_path / "insects", ants=30)
    words = ("--data", root, "--ipc", "3", "--partition", "2")
    assert warnings_of(tmp_path, *words) == [
        "the start takes 12 training images of each class, found 6 of class 'bee': some are drawn "
        "more than once"
    ]
    assert pixels(tmp_path / "run").shape == (6, 3, 8, 8)


@pytest.mark.parametrize("words", ["--start noise", "--start whole", "--partition 1", "--ipc 1"])
def test_a_start_that_needs_no_more_images_than_there_are_is_fine_with_strict(tmp_path, words):
    root = write_insects(tmp_path / "insects", ants=30)
    assert warnings_of(tmp_path, "--data", root, "--ipc", "3", "--strict", *words.split()) == []


def test_strict_refuses_classes_with_fewer_images_than_the_start_needs(tmp_path):
    root = tmp_path / "insects"
    for number in range(5):
        write_class(root / f"class {number}", 5, first=10 * number)
    assert refusal(tmp_path, "--data", root, "--ipc", "2", "--partition", "2", "--strict") == (
        "expected 8 training images of each class for the start, found 4 of class 'class 0', 4 of "
        "class 'class 1', 4 of class 'class 2' and 2 more: add images, lower ipc or partition, or "
        "leave out --strict to draw some more than once"
    )
