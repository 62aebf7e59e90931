"""Whether a run came to the numbers of another one."""

import json

import numpy as np

from idm_ray.results.condensed import read_arrays


def reports(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def accuracies(folder):
    found = [line for line in reports(folder) if "accuracy" in line]
    names = ("subject", "repeat", "iteration", "split")
    by_job = {tuple(line.get(name) for name in names): line["accuracy"] for line in found}
    assert len(by_job) == len(found), "one is told twice"
    return by_job


def assert_same(folder, reference):
    """The same pixels and accuracies; every iteration is in one line of the log."""
    pixels = [
        read_arrays(place / "condensed.parquet")[0].tobytes() for place in (folder, reference)
    ]
    assert pixels[0] == pixels[1]
    assert accuracies(folder) == accuracies(reference)
    lines = [line for line in reports(folder) if "matching_loss" in line]
    ends = [line["iteration"] for line in lines]
    assert ends == sorted(set(ends))
    alone = [line for line in reports(reference) if "matching_loss" in line]
    assert [line["iteration"] for line in alone] == list(range(1, ends[-1] + 1))
    for name in ("matching_loss", "regularization"):
        means = [
            np.mean([line[name] for line in alone[first:end]])
            for first, end in zip([0, *ends], ends, strict=False)
        ]
        np.testing.assert_allclose([line[name] for line in lines], means, rtol=1e-9)
    assert not (folder / "checkpoints").exists()
