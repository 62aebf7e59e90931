"""Tables of searches: what there is to try, and what was found."""

from collections.abc import Iterator, Sequence

from rich.markup import escape
from rich.table import Table

from idm_ray.report import statistics
from idm_ray.searches.catalog import Listed
from idm_ray.searches.search import Search
from idm_ray.searches.trials import Row, best_row
from idm_ray.terminal import accuracy_text, duration_text
from idm_ray.tuning.conclusion import SPLIT, Found, Tuned


def searches_table(searches: Sequence[Listed]) -> Table:
    """What each named search would try."""
    table = Table(title="searches", title_justify="left")
    for name in ("search", "what it varies", "values", "paper"):
        table.add_column(name)
    for listed in searches:
        table.add_row(listed.name, escape(listed.description), escape(listed.values), listed.source)
    return table


def search_table(
    search: Search, rows: Sequence[Row], *, title: str, split: str, own: str | None = None
) -> Table:
    """Accuracy of each point of a search, with what did not come to its end and why.

    Args:
        search: whose rows they are.
        rows: in the order in which they are to be shown.
        title: what was run.
        split: images that the networks were tested on, such as "validation".
        own: label of the point that the run's own settings give.
    """
    best = best_row(rows)
    seeds = list(dict.fromkeys(seed for row in rows for seed in row.seed_means))
    table = Table(title=escape(title), title_justify="left", min_width=len(title))
    table.add_column(escape(search.name))
    for name in (f"{split} {search.metric}", *(f"seed {seed}" for seed in seeds), "networks"):
        table.add_column(name, justify="right")
    table.add_column("time", justify="right")
    table.add_column("")
    for row in rows:
        table.add_row(
            escape(row.label),
            _mean(row),
            *(_percent(row.seed_means.get(seed)) for seed in seeds),
            str(row.networks) if row.networks else "-",
            duration_text(row.seconds) if row.seconds and not row.same_as else "-",
            escape("; ".join(_remarks(row, best, own))),
            style="bold" if row is best else "",
        )
    return table


def tuned_tables(tuned: Tuned) -> Iterator[Table | str]:
    """A table for each search, and what the best setting is worth."""
    for found in tuned.found:
        yield search_table(
            found.search, _shown_rows(found), title=tuned.title, split=SPLIT, own=found.own
        )
    for name, label in (("random", "random real images"), ("start", "its own start")):
        if result := tuned.baselines.get(name):
            yield f"{label}: {accuracy_text(result)} % of {SPLIT} images"
    if tuned.queues:
        trained = sum(count.trained for count in tuned.queues)
        served = sum(count.served for count in tuned.queues)
        yield (
            f"{len(tuned.queues)} shared queue{'s' * (len(tuned.queues) > 1)}: trained "
            f"{trained} iterations, served {served}"
        )
    search, row = tuned.best
    yield f"best: {search.name}, {row.label}"
    for seed, accuracies in tuned.test.items():
        yield f"seed {seed} on test images: {accuracy_text(statistics(accuracies))} %"
    if not tuned.test:
        yield "no run with it came to its end: not tested on test images"
    yield f"tables, figures and best.yaml in {tuned.folder}"


def _shown_rows(found: Found) -> Sequence[Row]:
    """Points of a grid in their order; drawn ones by how far they came and how good they are."""
    if not found.is_drawn:
        return found.rows
    return sorted(found.rows, key=lambda row: (-row.iterations, -(row.mean or 0)))


def _mean(row: Row) -> str:
    if row.mean is None:
        return "-"
    return accuracy_text({"mean": row.mean, "std": row.std, "repeats": row.networks})


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def _remarks(row: Row, best: Row | None, own: str | None) -> list[str]:
    """What there is to say of a point beside its numbers."""
    remarks = ["best"] if row is best else []
    remarks += ["default"] if row.label == own else []
    if row.same_as:
        return [*remarks, f"the same run as {row.same_as}"]
    if row.stopped:
        remarks.append(f"stopped at iteration {row.iterations}")
    return remarks + [f"failed: {cause}" for cause in dict.fromkeys(row.causes)]
