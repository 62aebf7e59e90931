"""Folders that pages are made of, small, and what a page says, read back from its HTML."""

import base64
import io
import json
from html.parser import HTMLParser

import numpy as np
import yaml
from PIL import Image

from idm_ray.results.condensed import write_condensed
from idm_ray.searches.catalog import SEARCHES
from idm_ray.searches.trials import TrialResult, tabulate
from idm_ray.storage import Location
from idm_ray.tuning.conclusion import Found, Place, conclude
from tests.making_runs import TINY, run
from tests.results.sets import make_card

VOID = {"meta", "link", "img", "br", "hr", "input", "path", "use"}


class Html(HTMLParser):
    """A page as a browser would take it apart: elements with their attributes and texts."""

    def __init__(self, path):
        super().__init__()
        self.elements = []
        self.texts = []
        self._open = []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        inside = self._open[-1] if self._open else ""
        if data.strip() and inside not in ("script", "style"):
            self.texts.append(" ".join(data.split()))

    def all(self, tag):
        """Attributes of all elements of a kind."""
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def text(self):
        """All that can be read."""
        return " ".join(self.texts)

    def pictures(self, start=""):
        """Pixels (H, W) or (H, W, 3) of the images whose alternative text begins so."""
        return [
            pixels_of(attrs["src"]) for attrs in self.all("img") if attrs["alt"].startswith(start)
        ]


def pixels_of(uri):
    assert uri.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def write_set(path, **changes):
    """A condensed set of random images; `changes` are of its card."""
    card = make_card(**changes)
    rng = np.random.default_rng(0)
    images = rng.normal(0, 2, (card.num_images, *card.image_shape)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.repeat(np.arange(len(card.class_names)), card.ipc)
    write_condensed(path, images=images, labels=labels, card=card)
    return images, card


def write_search(root):
    """A small search that has come to its end, of real runs."""
    results = []
    for label in ("0", "2"):
        folder = f"lambda_reg/{label}-0"
        options = {"lambda_reg": float(label), "repeats": 2, "val_fraction": 0.2}
        done = run(root / folder, eval_split="validation", **options)
        evaluation = done.summary["evaluation"]
        results.append(
            TrialResult(
                search="lambda_reg",
                label=label,
                options={"lambda_reg": float(label)},
                seed=0,
                status="done",
                accuracies=tuple(evaluation["accuracies"]),
                seconds=done.summary["seconds"],
                iterations=3,
                folder=folder,
            )
        )
    search = SEARCHES["lambda_reg"]
    found = Found(search=search, rows=tabulate(results), results=results, own=None, is_drawn=False)
    place = Place(
        folder=Location.at(root),
        title="digits, idm, 1 per class",
        given={"data": "digits"},
        runs={**TINY, "repeats": 1},
    )
    conclude([found], [], place)
    write_request(root)
    return root


def write_request(root, **changes):
    """What a search was asked."""
    request = {"search": ["lambda_reg"], "values": None, "how": {"seeds": 1}, "options": {}}
    root.mkdir(parents=True, exist_ok=True)
    (root / "search.yaml").write_text(yaml.safe_dump(request | changes))
    return root


def cell(method="idm", ipc=1, mean=0.4, **changes):
    """A cell of results.json."""
    content = {
        "method": method,
        "ipc": ipc,
        "network": "convnet-3",
        "evaluated_on": "convnet-3",
        "protocol": "paper",
        "epochs": 1000,
        "repeats": 2,
        "mean": mean,
        "std": 0.01,
        "seeds": [{"seed": 0, "accuracies": [mean - 0.01, mean + 0.01]}],
        "iterations": 400,
        "ratio": 0.0002,
        "gain_over_random": 0.26,
        "condense_seconds": 600.0,
        "evaluate_seconds": 100.0,
        "peak_rss_bytes": 700_000_000,
        "folder": None,
    }
    return content | changes


def write_comparison(root, cells, **changes):
    """A comparison."""
    content = {
        "format": 1,
        "kind": "comparison",
        "data": "cifar10",
        "cells": cells,
        "made": {"command": "idm-ray compare", "versions": {"idm_ray": "0.1.0"}, "commit": "abc"},
    }
    root.mkdir(parents=True, exist_ok=True)
    (root / "results.json").write_text(json.dumps(content | changes))
    return root
