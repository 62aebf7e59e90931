"""What the page of a run says, from the files of its folder."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from idm_ray.errors import DataError, StorageError
from idm_ray.formats.opening import read_set
from idm_ray.formats.stored import StoredSet
from idm_ray.page.content import Cell, Page, Part, Plots, Section, Table, Text, row
from idm_ray.page.fields import Fields
from idm_ray.page.gallery import Shown, make_gallery
from idm_ray.page.making import made_of, use_of
from idm_ray.page.neighbours import Found, find_neighbours
from idm_ray.page.plots import draw_run
from idm_ray.page.texts import Result, bytes_text, percent_text, plural, share_text, spread_text
from idm_ray.results.curves import Reports
from idm_ray.results.metrics_log import is_progress, parse_reports
from idm_ray.results.run_config import parse_config
from idm_ray.storage import Location, shown
from idm_ray.terminal import duration_text

CONFIG: Final = "config.yaml"
_SET, _SUMMARY, _METRICS = "condensed.parquet", "summary.json", "metrics.jsonl"
# Of a result table: name in summary.json, and what networks were trained on.
_BASELINES: Final = (
    ("start", "The images it started from"),
    ("random", "As many random real images"),
    ("whole", "All training images"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """What there is of a run.

    Attributes:
        folder: as the user wrote it.
        config: its configuration.
        stored: its set, if it was written yet.
        summary: its results, if it has come to its end.
        reports: its log.
    """

    folder: str
    config: Mapping[str, Any]
    stored: StoredSet | None
    summary: Fields | None
    reports: Reports

    @property
    def options(self) -> Mapping[str, Any]:
        """Flat options."""
        options: Mapping[str, Any] = self.config["options"]
        return options

    @property
    def source(self) -> str:
        """The name of the data."""
        return str(self.config["data"].get("name", "data"))

    @property
    def method(self) -> str:
        """In capitals, as they are written."""
        return str(self.options["method"]).upper()

    @property
    def iteration(self) -> int:
        """The last one that the log tells of."""
        return max((int(r["iteration"]) for r in self.reports if is_progress(r)), default=0)

    def result(self, name: str) -> Result | None:
        """A result of the summary."""
        if self.summary is None or not self.summary.has(name):
            return None
        return Result.of(self.summary.part(name))


def run_page(place: Location, written: str, *, data: str | None, neighbours: bool) -> Page:
    """Put together what there is of a run.

    Args:
        place: of its folder.
        written: the same, as the user wrote it.
        data: where the images of the run are now; None: where they were.
        neighbours: whether to look for the nearest training images.

    Raises:
        UserError: a file is damaged.
        StorageError: a remote store went on failing.
    """
    run = _read(place, written)
    found, missing = _neighbours(run, data) if neighbours else (None, "")
    notices = [*_unfinished(run), missing]
    sections = []
    if run.stored is not None:
        shown_set = Shown(title="", stored=run.stored, neighbours=found.by_label if found else {})
        gallery, left_out = make_gallery([shown_set])
        notices += left_out
        parts: list[Part] = [gallery, *([Text(text=found.how)] if found else [])]
        sections.append(Section(name="images", heading="The images", parts=parts))
    if results := _results(run):
        sections.append(Section(name="results", heading="How good they are", parts=results))
    sections.append(
        Section(
            name="curves",
            heading="How it went",
            parts=[Plots(plots=draw_run(run.reports, str(run.options["eval_split"])))],
        )
    )
    sections.append(
        Section(name="made", heading="How they were made", parts=made_of(run.config, _facts(run)))
    )
    if run.stored is not None:
        use = use_of(run.folder, run.stored.card, str(run.options["data"]))
        sections.append(Section(name="use", heading="How to use them", parts=use))
    return Page(
        what="run",
        title=f"{run.source}, {plural(run.options['ipc'], 'image')} per class",
        lead=_lead(run),
        figures=_figures(run),
        sections=sections,
        notices=[notice for notice in notices if notice],
        is_complete=run.summary is not None,
    )


def _read(place: Location, written: str) -> _Run:
    config_file, summary_file = place / CONFIG, place / _SUMMARY
    metrics_file = place / _METRICS
    return _Run(
        folder=shown(written),
        config=parse_config(config_file.read_bytes(), str(config_file)),
        stored=read_set((place / _SET).address) if (place / _SET).exists() else None,
        summary=Fields.read(summary_file) if summary_file.exists() else None,
        reports=parse_reports(metrics_file.read_bytes()) if metrics_file.exists() else (),
    )


def _neighbours(run: _Run, data: str | None) -> tuple[Found | None, str]:
    """The neighbours of the images, or why there are none."""
    if run.stored is None:
        return None, ""
    try:
        found = find_neighbours(run.stored, run.config, data)
    except (DataError, StorageError) as error:
        return None, f"Nearest real images are not shown, as the data was not to be had: {error}"
    if not found.by_label:
        return None, "Nearest real images are left out, so that the page stays small."
    return found, ""


def _unfinished(run: _Run) -> list[str]:
    if run.summary is not None:
        return []
    total = run.options["iterations"]
    what = "The images are there, but not their evaluation." if run.stored else "No images yet."
    return [
        f"This run has not come to its end: its log goes to iteration {run.iteration:,} of "
        f"{total:,}. {what} Go on with it by: idm-ray resume {shlex.quote(run.folder)}"
    ]


def _lead(run: _Run) -> str:
    result = run.result("evaluation")
    made = f"Synthetic images, made by {run.method} from {run.source}."
    if run.summary is not None:
        kept = run.summary.count("ipc") * run.summary.count("num_classes")
        ratio = run.summary.number("ratio") if run.summary.has("ratio") else 0
        real = f"{round(kept / ratio):,} training images" if ratio else "its training images"
        made = (
            f"{plural(kept, 'synthetic image')}, made by {run.method} from the {real} of "
            f"{run.source}."
        )
    if result is None:
        return made
    return (
        f"{made} A network that was trained on nothing else classifies "
        f"{percent_text(result.mean)} of the {result.split} images correctly."
    )


def _figures(run: _Run) -> list[tuple[str, str]]:
    """The numbers that matter most."""
    if run.summary is None:
        return []
    figures = []
    result, random = run.result("evaluation"), run.result("random")
    if result is not None:
        figures.append((percent_text(result.mean), f"{result.split} accuracy"))
        if random is not None:
            gain = 100 * (result.mean - random.mean)
            figures.append((f"{gain:+.1f}", "points against random real images"))
    if run.summary.has("ratio"):
        figures.append((share_text(run.summary.number("ratio")), "of the training images"))
    figures.append((duration_text(run.summary.number("seconds")), "condensing"))
    return figures


def _results(run: _Run) -> list[Part]:
    result = run.result("evaluation")
    if run.summary is None:
        return []
    if result is None:
        return [Text(text="Nobody has trained on them yet: the run was told to evaluate nothing.")]
    columns = [
        Cell(text="Trained on"),
        Cell(text="Accuracy, %", is_number=True),
        Cell(text="0 to 100 %"),
        Cell(text="Epochs", is_number=True),
    ]
    # A run keeps its last iterate, unless it says otherwise.
    evaluation = run.summary.part("evaluation")
    selected = evaluation.text("selected_on") if evaluation.has("selected_on") else "last"
    rows = [_result_row(f"These images, by {run.method}", result, is_best=True)]
    for name, label in _BASELINES:
        if (baseline := run.result(name)) is not None:
            rows.append(_result_row(label, baseline, is_best=False))
    chosen = "the last iterate" if selected == "last" else f"the iterate selected on {selected}"
    table = Table(caption=f"{result.terms()} The images are {chosen}.", columns=columns, rows=rows)
    return [table]


def _result_row(label: str, result: Result, *, is_best: bool) -> tuple[Cell, ...]:
    text = spread_text(result.mean, result.std, result.count)
    cell = Cell(text=text, is_number=True, is_best=is_best)
    return row(label, cell, result.drawn, f"{result.epochs:,}")


def _facts(run: _Run) -> list[tuple[str, str]]:
    """What a run was, and took."""
    options, summary = run.options, run.summary
    facts = [
        ("Method", f"{run.method}, {plural(options['iterations'], 'iteration')}"),
        ("Network", str(options["network"])),
        ("Seed", str(options["seed"])),
    ]
    if summary is not None:
        seconds = summary.number("seconds")
        each = summary.number("seconds_per_iteration")
        facts += [
            ("Time", f"{duration_text(seconds)}, {each:.2f} s an iteration"),
            ("Memory", f"{bytes_text(summary.number('peak_rss_bytes'))} at most"),
        ]
    return facts
