"""Tables of sets and of data: how good they are, what was written."""

import rich.filesize
from rich.markup import escape
from rich.table import Table

from idm_ray.data.manifest import Manifest
from idm_ray.evaluation import Evaluation
from idm_ray.formats.export import Exported
from idm_ray.page.writing import Written
from idm_ray.storage import shown
from idm_ray.terminal import accuracy_heading, accuracy_text, duration_text


def evaluation_table(evaluation: Evaluation) -> Table:
    """Accuracies by network."""
    title = escape(f"{evaluation.file} tested on {evaluation.data}")
    table = Table(title=title, title_justify="left")
    table.add_column("network")
    tested = accuracy_heading(next(iter(evaluation.networks.values()), {}))
    for name in (tested, "protocol", "networks", "epochs"):
        table.add_column(name, justify="right")
    for network, result in evaluation.networks.items():
        told = (result["protocol"], str(result["repeats"]), str(result["epochs"]))
        table.add_row(network, accuracy_text(result), *told)
    return table


def shards_table(manifest: Manifest, out: str, seconds: float) -> Table:
    """What was written: images of each class, and their size."""
    stored = sum(shard.size for shard in manifest.shards)
    images = sum(r.images for r in (*manifest.train, *manifest.test))
    title = (
        f"{shown(out)}: {images} images of {len(manifest.class_names)} classes, "
        f"{len(manifest.shards)} shards, {rich.filesize.decimal(stored)}, {duration_text(seconds)}"
    )
    table = Table(title=escape(title), title_justify="left", min_width=len(title))
    table.add_column("class")
    for name in ("training images", "test images", "size"):
        table.add_column(name, justify="right")
    for name, train, test in zip(manifest.class_names, manifest.train, manifest.test, strict=True):
        size = rich.filesize.decimal(train.encoded_bytes + test.encoded_bytes)
        table.add_row(escape(name), str(train.images), str(test.images), size)
    if manifest.skipped:
        table.caption = f"left out {manifest.skipped}: {escape('; '.join(manifest.problems))}"
    return table


def exported_text(exported: Exported) -> str:
    """What was written, and what whoever gets it must know."""
    usage = "".join(letter if letter.isprintable() else "?" for letter in exported.usage)
    text = f"{exported.num_images} images in {exported.out}. {usage}"
    if exported.clipped is None:
        return escape(text)
    return escape(
        f"{text} Of their numbers, {100 * exported.clipped:.1f} % were darker than black or "
        "brighter than white and were cut; the other forms keep them."
    )


def report_text(written: Written) -> str:
    """What page was written, and what is missing on it."""
    size = rich.filesize.decimal(written.num_bytes)
    unfinished = "" if written.is_complete else " that has not come to its end"
    lines = [f"page of a {written.what}{unfinished} in {written.out}, {size}", *written.notices]
    return escape("\n".join(lines))
