"""What the page of a search says, from the files of its folder."""

import shlex
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from idm_ray.errors import UserError
from idm_ray.formats.opening import read_set
from idm_ray.page.content import (
    Cell,
    Code,
    Facts,
    Page,
    Part,
    Plot,
    Plots,
    Section,
    Table,
    row,
)
from idm_ray.page.gallery import Shown, make_gallery
from idm_ray.page.making import made_of, value_text
from idm_ray.page.plots import draw_drawn, draw_search
from idm_ray.page.search_files import (
    Concluded,
    Trial,
    read_conclusion,
    read_log,
    read_request,
)
from idm_ray.page.texts import percent, percent_text, plural, spread_text
from idm_ray.results.run_config import parse_config
from idm_ray.searches.catalog import SEARCHES
from idm_ray.searches.finding import with_values
from idm_ray.searches.search import Axis, Search
from idm_ray.searches.search import value_text as option_text
from idm_ray.searches.trials import Row
from idm_ray.storage import Location, shown
from idm_ray.terminal import duration_text

# Searches compare settings on these images, and test the best one on the test images.
_SPLIT: Final = "validation"
_BASELINES: Final = {"start": "its own start", "random": "random real images"}


def search_page(place: Location, written: str) -> Page:
    """Put together what there is of a search.

    Args:
        place: of its folder.
        written: the same, as the user wrote it.

    Raises:
        UserError: a file is damaged.
        StorageError: a remote store went on failing.
    """
    request = read_request(place)
    found = read_conclusion(place)
    if found is None:
        return _unfinished(place, written, request)
    sections = [
        Section(name=f"search-{i}", heading=name, parts=_search_parts(found, name, rows, request))
        for i, (name, rows) in enumerate(found.rows.items())
    ]
    sections.append(Section(name="best", heading="The best setting", parts=_best_parts(found)))
    made, gallery_parts, notices = _of_best_run(place, found, request)
    if gallery_parts:
        sections.append(Section(name="images", heading="Its images", parts=gallery_parts))
    sections.append(Section(name="made", heading="How it was made", parts=made))
    return Page(
        what="search",
        title=found.title,
        lead=_lead(found),
        figures=_figures(found),
        sections=sections,
        notices=notices,
    )


def _unfinished(place: Location, written: str, request: Mapping[str, Any]) -> Page:
    trials = read_log(place)
    ended = sum(trial.status != "running" for trial in trials)
    names = ", ".join(map(str, request["search"]))
    table = Table(
        caption="What became of the trials so far. Accuracy in percent on validation images.",
        columns=[
            Cell(text="Trial"),
            *(Cell(text=text, is_number=True) for text in ("Status", "Iteration", "Accuracy, %")),
        ],
        rows=[row(t.label, t.status, str(t.iterations), _accuracy(t)) for t in trials],
    )
    return Page(
        what="search",
        title=f"Search over {names}",
        lead=f"{plural(ended, 'trial')} of this search ended so far.",
        figures=[],
        sections=[
            Section(name="trials", heading="Trials", parts=[table]),
            Section(
                name="made", heading="How it is made", parts=[Facts(facts=_request_facts(request))]
            ),
        ],
        notices=[
            "This search has not come to its end. It goes on with the command that began it and "
            f"--resume auto --out {shlex.quote(shown(written))}"
        ],
        is_complete=False,
    )


def _accuracy(trial: Trial) -> str:
    return percent(statistics.fmean(trial.accuracies)) if trial.accuracies else "-"


def _search_parts(
    found: Concluded, name: str, rows: Sequence[Row], request: Mapping[str, Any]
) -> list[Part]:
    return [Plots(plots=[_plot(found, name, rows, request)]), _table(found, name, rows)]


def _plot(found: Concluded, name: str, rows: Sequence[Row], request: Mapping[str, Any]) -> Plot:
    search = _search_of(name, rows)
    how = request.get("how")
    if isinstance(how, Mapping) and "budget" in how:
        trials = [trial for trial in found.trials if trial.search == name]
        return draw_drawn(search, trials, split=_SPLIT)
    return draw_search(search, rows, split=_SPLIT)


def _search_of(name: str, rows: Sequence[Row]) -> Search:
    """The search that rows are of, for the axis of its figure."""
    if name in SEARCHES:
        return SEARCHES[name]
    options = list(dict.fromkeys(option for row in rows for option in row.options))
    if len(options) == 1:
        try:
            values = ",".join(option_text(row.options[options[0]]) for row in rows)
            return with_values(options[0], values)
        except UserError:
            pass  # an option of another version: it has bars
    return Search(
        name=name,
        description=name,
        varies=tuple(options),
        axis=Axis(label="settings", scale="bars"),
        grid=lambda config: (),
        space=lambda config: {},
    )


def _table(found: Concluded, name: str, rows: Sequence[Row]) -> Table:
    seeds = list(dict.fromkeys(seed for row in rows for seed in row.seed_means))
    columns = [Cell(text="Setting"), Cell(text="Accuracy, %", is_number=True)]
    columns += [Cell(text=f"Seed {seed}", is_number=True) for seed in seeds]
    columns += [Cell(text="Time", is_number=True), Cell(text="")]
    return Table(
        caption="Validation accuracy in percent: mean ± population standard deviation over (n) "
        "fresh networks of all seeds.",
        columns=columns,
        rows=[_table_row(one, seeds, is_best=found.best == (name, one.label)) for one in rows],
    )


def _table_row(one: Row, seeds: Sequence[int], *, is_best: bool) -> tuple[Cell, ...]:
    text = "-" if one.mean is None else spread_text(one.mean, one.std, one.networks)
    means = [one.seed_means.get(seed) for seed in seeds]
    return row(
        one.label,
        Cell(text=text, is_number=True, is_best=is_best),
        *("-" if mean is None else percent(mean) for mean in means),
        duration_text(one.seconds) if one.seconds and not one.same_as else "-",
        Cell(text="; ".join(_remarks(one, is_best=is_best))),
    )


def _remarks(one: Row, *, is_best: bool) -> list[str]:
    remarks = ["best"] if is_best else []
    if one.same_as:
        return [*remarks, f"the same run as {one.same_as}"]
    if one.stopped:
        remarks.append(f"stopped at iteration {one.iterations}")
    return remarks + [f"failed: {cause}" for cause in dict.fromkeys(one.causes)]


def _best_parts(found: Concluded) -> list[Part]:
    """What the best setting is worth, and the file that gives it."""
    name, label = found.best
    facts = [("Setting", f"{name} {label}")]
    for seed, accuracies in found.test.items():
        facts.append((f"Test images, seed {seed}", f"{_spread_of(accuracies)} %"))
    if not found.test:
        facts.append(("Test images", "not tested, as no run with it came to its end"))
    for subject, result in found.baselines.items():
        text = spread_text(result.mean, result.std, result.count)
        trained_on = _BASELINES.get(subject, subject)
        facts.append((f"{result.split.capitalize()} images, {trained_on}", f"{text} %"))
    code = Code(caption="best.yaml, for idm-ray condense --config", text=found.best_config)
    return [Facts(facts=facts), code]


def _spread_of(accuracies: Sequence[float]) -> str:
    if not accuracies:
        return "-"
    return spread_text(statistics.fmean(accuracies), statistics.pstdev(accuracies), len(accuracies))


def _of_best_run(
    place: Location, found: Concluded, request: Mapping[str, Any]
) -> tuple[list[Part], list[Part], tuple[str, ...]]:
    """How a run of the best setting was made, its images, and what is left out of them."""
    asked = _request_facts(request)
    if not found.best_folder:
        return [Facts(facts=asked)], [], ()
    run = place / found.best_folder
    config_file, set_file = run / "config.yaml", run / "condensed.parquet"
    made: list[Part] = [Facts(facts=asked)]
    if config_file.exists():
        made = made_of(parse_config(config_file.read_bytes(), str(config_file)), asked)
    if not set_file.exists():
        return made, [], ()
    one = Shown(title="", stored=read_set(set_file.address), neighbours={})
    gallery, left_out = make_gallery([one])
    return made, [gallery], left_out


def _request_facts(request: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [("Searches", value_text(request["search"]))]
    if request.get("values") is not None:
        facts.append(("Values", value_text(request["values"])))
    for part in ("how", "options"):
        given = request.get(part)
        if isinstance(given, Mapping):
            facts += [(str(name), value_text(value)) for name, value in given.items()]
    return facts


def _lead(found: Concluded) -> str:
    name, label = found.best
    count = sum(len(rows) for rows in found.rows.values())
    best = found.best_row
    accuracy = (
        ""
        if best is None or best.mean is None
        else f", with {percent_text(best.mean)} of validation images read correctly"
    )
    return f"{plural(count, 'setting')} were compared. The best one is {name} {label}{accuracy}."


def _figures(found: Concluded) -> list[tuple[str, str]]:
    figures = []
    accuracies = [accuracy for of_seed in found.test.values() for accuracy in of_seed]
    if accuracies:
        mean = percent_text(statistics.fmean(accuracies))
        figures.append((mean, "test accuracy of the best setting"))
    best = found.best_row
    if best is not None and best.mean is not None:
        figures.append((percent_text(best.mean), "validation accuracy of the same"))
    figures.append((str(len(found.trials)), "runs"))
    seconds = sum(row.seconds for rows in found.rows.values() for row in rows if not row.same_as)
    return [*figures, (duration_text(seconds), "time of all runs")]
