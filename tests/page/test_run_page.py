"""What stands on the page of a run, and that it is all in the one file."""

import base64
import hashlib
import itertools
import json
import re
import shutil
from collections import Counter

import numpy as np
import pytest
import yaml
from PIL import Image

import idm_ray
from idm_ray.config import DataConfig
from idm_ray.data.dataset import open_dataset
from idm_ray.results.pictures import to_uint8
from tests.making_runs import TINY, run
from tests.page.making import Html, write_set


@pytest.fixture(scope="module")
def page(finished, tmp_path_factory):
    path = tmp_path_factory.mktemp("pages") / "page.html"
    written = idm_ray.write_report(finished, out=path)
    assert (written.what, written.is_complete, written.notices) == ("run", True, ())
    assert written.num_bytes == path.stat().st_size
    return Html(path), path.read_text()


@pytest.fixture
def copied(finished, tmp_path):
    """A run that may be spoiled."""
    return shutil.copytree(finished, tmp_path / "run")


def html_of(folder, **options):
    """The page of a folder, without its real images."""
    written = idm_ray.write_report(folder, overwrite=True, **{"neighbours": False, **options})
    return Html(folder / "report.html"), written


# --- what it says ---


def test_results_stand_with_their_deviation_their_count_and_the_protocol(page, finished):
    summary = json.loads((finished / "summary.json").read_text())
    for name in ("evaluation", "start", "random"):
        result = summary[name]
        assert f"{100 * result['mean']:.1f} ± {100 * result['std']:.1f} (2)" in page[0].text
    assert f"{100 * summary['whole']['mean']:.1f} (1)" in page[0].text
    assert "Protocol paper: convnet-2, 2 epochs" in page[0].text
    assert "the last iterate" in page[0].text


def test_it_says_how_the_images_were_made_and_how_to_use_them(page, finished):
    config = yaml.safe_load((finished / "config.yaml").read_text())
    for value in (
        config["command"],
        config["versions"]["torch"],
        config["data"]["fingerprint"][:12],
        config["commit"],
        "queue_size",
    ):
        assert value in page[0].text
    assert f"idm_ray.load('{finished}')" in page[0].text
    assert f"idm-ray evaluate {finished}" in page[0].text


def test_curves_are_drawn_with_texts_that_can_be_read(page):
    assert len(page[0].all("svg")) == 3
    for text in ("Matching loss", "Regularization", "Accuracy", "iteration", "accuracy, %"):
        assert text in page[0].texts
    told = [attrs["aria-label"] for attrs in page[0].all("div") if attrs.get("role") == "img"]
    assert re.match(r"matching loss: \S+ at iteration 1, \S+ at iteration 3$", told[0])


# --- images ---


def test_the_images_are_those_of_the_set_pixel_by_pixel(page, finished):
    loaded = idm_ray.load(finished)
    card = loaded.card
    expected = to_uint8(loaded.images.numpy(), mean=card.mean, std=card.std)
    names = [f"condensed {name}, image" for name in card.class_names]
    for label, name in enumerate(names):
        # Once among all of the class, once beside real ones.
        found = page[0].pictures(name)
        assert len(found) == 6
        for rank, pixels in enumerate(found):
            assert np.array_equal(pixels, expected[3 * label + rank % 3, 0])


def test_real_images_stand_where_the_tiles_are_that_are_nearest_to_them(page, finished):
    loaded = idm_ray.load(finished)
    train = open_dataset(DataConfig(data="digits", limit_per_class=20)).train
    card = loaded.card
    tiles = loaded.dataset().images.numpy().reshape(10, 3, 4, 64)
    for label in (0, 7):
        rows = np.asarray(train.class_rows(label))
        real = train.images.take(rows)
        normalised = ((real / 255 - card.mean[0]) / card.std[0]).reshape(len(rows), 64)
        found = page[0].pictures(f"nearest training images of {label}: ")
        assert len(found) == 3
        for rank, mosaic in enumerate(found):
            assert mosaic.shape == (16, 16)
            for tile in range(4):
                distances = [np.sum((tiles[label, rank, tile] - one) ** 2) for one in normalised]
                top, left = 8 * (tile // 2), 8 * (tile % 2)
                shown = mosaic[top : top + 8, left : left + 8]
                assert np.array_equal(shown, real[int(np.argmin(distances)), 0])


def test_one_image_per_class_stands_once_beside_the_nearest_one(tmp_path):
    folder = run(tmp_path / "run", partition=1).folder
    idm_ray.write_report(folder)
    html = Html(folder / "report.html")
    assert len(html.pictures("condensed ")) == len(html.pictures("nearest ")) == 10
    assert html.pictures("nearest ")[0].shape == (8, 8)
    assert "Nobody has trained on them yet" in html.text


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("digits", "found others; say with --data"),
        ("cifar10", "nothing is downloaded"),
        ("no/such/folder", "no such file"),
    ],
)
def test_data_that_are_not_to_be_had_are_told_of(copied, data, why, tmp_path):
    if data == "digits":  # of all images, not of the first 20 of each class
        config = yaml.safe_load((copied / "config.yaml").read_text())
        config["options"]["limit_per_class"] = 30
        (copied / "config.yaml").write_text(yaml.safe_dump(config))
    if data == "cifar10":
        config = yaml.safe_load((copied / "config.yaml").read_text())
        config["options"]["data_root"] = str(tmp_path / "nothing")
        (copied / "config.yaml").write_text(yaml.safe_dump(config))
    html, written = html_of(copied, data=data, neighbours=True)
    assert why in written.notices[0]
    assert "the data was not to be had" in html.text
    assert not html.pictures("nearest ")
    assert len(html.pictures("condensed ")) == 30


# --- one file that needs no others ---


def test_nothing_is_loaded_from_anywhere(page):
    html, text = page
    for tag, attrs in html.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            if value := attrs.get(name):
                assert value.startswith(("data:", "#")), (tag, name, value)
        assert not [name for name in attrs if name.startswith("on")], attrs
    assert not {"iframe", "object", "embed", "form", "base"} & {tag for tag, _ in html.elements}
    assert not re.search(r"@import|url\((?!#)", text)


def test_the_policy_allows_no_more_than_the_page_needs(page):
    html, text = page
    (policy,) = [attrs["content"] for attrs in html.all("meta") if attrs.get("http-equiv")]
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        f"script-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_headings_labels_and_identifiers_are_in_order(page):
    html, _ = page
    levels = [int(tag[1]) for tag, _ in html.elements if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))
    ids = Counter(attrs["id"] for _, attrs in html.elements if "id" in attrs)
    assert not [name for name, count in ids.items() if count > 1]
    links = {a["href"][1:] for tag, a in html.elements if a.get("href", "").startswith("#")}
    assert links <= set(ids)
    assert all(attrs["alt"] for attrs in html.all("img"))
    named = {a[name] for _, a in html.elements for name in ("aria-labelledby",) if name in a}
    assert named <= set(ids)


def test_equal_runs_give_equal_pages(finished, tmp_path):
    first, second = tmp_path / "a.html", tmp_path / "b.html"
    for path in (first, second):
        idm_ray.write_report(finished, out=path)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("where", ["class names", "command", "options"])
def test_what_strangers_wrote_is_text(copied, where):
    hostile = "</script></style></code>\"'><script>alert(1)</script><img src=x onerror=y>&amp;"
    if where == "class names":
        names = (hostile, "cat", "'dog'")
        write_set(copied / "condensed.parquet", class_names=names)
    else:
        config = yaml.safe_load((copied / "config.yaml").read_text())
        if where == "command":
            config |= {"command": hostile, "commit": hostile, "processors": [hostile]}
            config["versions"] = {hostile: hostile}
            config["data"]["name"] = hostile
        else:
            config["options"]["classes"] = hostile
        (copied / "config.yaml").write_text(yaml.safe_dump(config))
    html, _ = html_of(copied)
    assert hostile in html.text
    assert len(html.all("script")) == 1
    assert all(attrs["src"].startswith("data:") for attrs in html.all("img"))


# --- size ---


def test_a_set_of_ten_classes_with_fifty_images_is_below_five_megabytes(tmp_path):
    rng = np.random.default_rng(0)
    for label in range(10):
        folder = tmp_path / "data" / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(40):
            save_noise(folder / f"{number}.png", rng)
    data = {"data": str(tmp_path / "data"), "limit_per_class": None, "queue_size": 0}
    options = {**TINY, **data, "iterations": 1, "method": "dm", "batch_real": 1}
    folder = run(tmp_path / "run", **options, ipc=50, start="whole").folder
    # No picture is larger as PNG than noise; and tiles have more real images than anything else.
    names = tuple(f"class{label}" for label in range(10))
    shape = {"image_shape": (3, 32, 32), "partition": 2, "ipc": 50, "class_names": names}
    write_set(folder / "condensed.parquet", **shape, iterations=1)
    written = idm_ray.write_report(folder)
    assert written.notices == ()
    html = Html(folder / "report.html")
    assert len(html.pictures("condensed ")) == 500 + 80
    assert len(html.pictures("nearest ")) == 80
    assert written.num_bytes < 5_000_000


def save_noise(path, rng):
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)


# --- runs that have not come to their end ---


def test_a_run_without_results_says_so(copied):
    (copied / "summary.json").unlink()
    html, written = html_of(copied)
    assert not written.is_complete
    assert "has not come to its end: its log goes to iteration 3 of 3" in written.notices[0]
    assert f"idm-ray resume {copied}" in html.text
    assert len(html.pictures("condensed ")) == 30


def test_a_run_that_has_just_begun_has_its_settings(copied):
    for name in ("summary.json", "condensed.parquet", "metrics.jsonl"):
        (copied / name).unlink()
    html, written = html_of(copied)
    assert "iteration 0 of 3. No images yet." in written.notices[0]
    assert "queue_size" in html.text
    assert not html.all("img")
