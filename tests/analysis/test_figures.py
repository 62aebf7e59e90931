import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from idm_ray.analysis.analyse import Analysis, Consistency
from idm_ray.analysis.features import FeatureSpace
from idm_ray.analysis.figures import write_consistency_figure, write_features_figure
from idm_ray.analysis.projection import project


def an_analysis(num_sets=2, k=(1, 5, 10)):
    space = FeatureSpace(
        network="convnet-3",
        epochs=5,
        training_images=50,
        test_accuracy=0.5,
        split="test",
        num_features=7,
        precision="float32",
        seed=0,
    )
    sets = {
        f"set-{number}": Consistency(
            file="f",
            method="idm",
            partition=1,
            ipc=1,
            samples=10,
            ratios=tuple(1 - 0.1 * number - 0.01 * place for place in range(len(k))),
        )
        for number in range(num_sets)
    }
    return Analysis(
        data="path/to/data",
        data_name=r"my $\frac data$",
        data_fingerprint="0f",
        space=space,
        k=k,
        chance=0.1,
        sets=sets,
        out=None,
        context={},
    )


def a_projection(num_classes, seed=0):
    draws = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), 5)
    features = draws.standard_normal((len(labels), 6)).astype(np.float32)
    return project(features, labels, [(features + 1, labels), (9 * features, labels)])


def texts(svg):
    """What is written in a figure: matplotlib notes it beside the outlines of the letters."""
    return re.findall(r"<!-- (.*?) -->", svg.read_text(), flags=re.S)


def files_of(stem):
    return [stem.with_suffix(suffix) for suffix in (".png", ".svg")]


def check(stem):
    png, svg = files_of(stem)
    with Image.open(png) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) >= 500
        assert len(picture.convert("RGB").getcolors(2**24)) > 10
    assert ET.parse(svg).getroot().tag.endswith("svg")
    return " ".join(texts(svg))


@pytest.mark.parametrize("num_sets", [1, 2, 13])
def test_ratios_are_drawn_over_k(tmp_path, num_sets):
    write_consistency_figure(tmp_path / "ratios", an_analysis(num_sets))
    written = check(tmp_path / "ratios")
    for number in range(num_sets):
        assert f"set-{number}" in written
    assert "consistency ratio, %" in written
    assert "chance" in written
    assert {"1", "5", "10"} <= {*texts(tmp_path / "ratios.svg")}
    assert r"my $\frac data$, features of convnet-3, trained for 5 epochs" in written


def test_a_single_k_is_drawn_too(tmp_path):
    write_consistency_figure(tmp_path / "ratios", an_analysis(k=(3,)))
    assert "3" in texts(tmp_path / "ratios.svg")


@pytest.mark.parametrize("num_classes", [2, 7, 10])
def test_every_class_has_its_panel(tmp_path, num_classes):
    names = [f"class number {label}" for label in range(num_classes)]
    write_features_figure(tmp_path / "f", a_projection(num_classes), 0, names, title="idm")
    written = check(tmp_path / "f")
    for name in names:
        assert name in written
    assert "idm; first two principal components of real images" in " ".join(written.split())
    for what in ("real, other classes", "real, this class", "synthetic"):
        assert what in texts(tmp_path / "f.svg")


def test_of_many_classes_the_first_are_drawn_which_is_said(tmp_path):
    names = [f"class number {label}" for label in range(30)]
    write_features_figure(tmp_path / "f", a_projection(30), 1, names, title="idm")
    written = check(tmp_path / "f")
    assert "class number 19" in written
    assert "class number 20" not in written
    assert "idm, 20 of 30 classes; first two" in " ".join(written.split())


def test_names_of_any_kind_can_be_drawn(tmp_path):
    names = [r"a $\frac", "b" * 60, "c\nd", "\u732b"]  # the font has no letter for the last
    write_features_figure(tmp_path / "f", a_projection(4), 0, names, title="idm")
    written = check(tmp_path / "f")
    assert r"a $\frac" in written
    assert "b" * 21 + "..." in written
    assert "c?d" in written


def test_all_sets_of_a_projection_show_the_same_part_of_the_plane(tmp_path):
    projection = a_projection(2)
    for place in (0, 1):
        write_features_figure(
            tmp_path / f"f{place}", projection, place, ["a", "b"], title="the same"
        )
    with Image.open(tmp_path / "f0.png") as first, Image.open(tmp_path / "f1.png") as second:
        pictures = [np.asarray(p.convert("RGB")).astype(int) for p in (first, second)]
    # Blue: real images of the class, which are the same, where no orange hides them.
    blue = [(p[..., 2] - p[..., 0] > 80) for p in pictures]
    orange = [(p[..., 0] - p[..., 2] > 80) for p in pictures]
    assert blue[0].sum() > 100
    hidden = orange[0] | orange[1]
    assert (blue[0] != blue[1])[~hidden].mean() < 0.01
    assert (orange[0] != orange[1]).any()


def test_the_same_results_are_the_same_bytes(tmp_path):
    def draw():
        write_consistency_figure(tmp_path / "r", an_analysis())
        write_features_figure(tmp_path / "f", a_projection(3), 0, ["a", "b", "c"], title="idm")
        stems = (tmp_path / "r", tmp_path / "f")
        return [path.read_bytes() for stem in stems for path in files_of(stem)]

    assert draw() == draw()
