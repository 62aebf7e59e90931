"""A search over settings, from what is asked to what is found: the paper's grids, or a budget."""

import dataclasses
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.errors import ResourceError, UserError
from idm_ray.execution import Listener
from idm_ray.progress import Announcement
from idm_ray.recorded_queue import Counts
from idm_ray.results.run_files import holds_run
from idm_ray.results.run_folder import next_free
from idm_ray.run import plain_values, resolve, settled
from idm_ray.searches.catalog import Listed, listing
from idm_ray.searches.finding import find, with_values
from idm_ray.searches.job import Job
from idm_ray.searches.queue_sequence import decide_sequence, shared_queue_key
from idm_ray.searches.rungs import rungs
from idm_ray.searches.same_runs import Selection, select
from idm_ray.searches.search import Choice, Distribution, Search, value_text
from idm_ray.searches.trials import TrialResult, tabulate, tabulate_grid
from idm_ray.storage import Location, shown
from idm_ray.tuning.conclusion import SUMMARY, Found, Place, Tuned, conclude
from idm_ray.tuning.grid import TRIALS, GridTrial, complete, grid_trials, job_of
from idm_ray.tuning.logbook import Logbook, Past, read_past
from idm_ray.tuning.request import (
    Ablation,
    Budget,
    Drawing,
    check_loggers,
    options_of_runs,
    parse_budget,
)
from idm_ray.tuning.work import final_report, run_job

if TYPE_CHECKING:
    from idm_ray.runtime.tuning import Tried

_ABLATION = Ablation()
_NEW = Past()

REQUEST = "search.yaml"
"""What a search was asked, in its folder; it goes on with nothing else."""


def tune(
    *,
    search: str | Sequence[str] = "lambda_reg",
    values: str | None = None,
    how: Ablation | Drawing = _ABLATION,
    out: str | Path | None = None,
    resume: Literal["never", "auto"] = "never",
    gpus_per_trial: float | None = None,
    log: Sequence[str] = (),
    listener: Listener = lambda event: None,
    **options: Any,
) -> Tuned:
    """Repeat a run with other settings, and say which are best.

    Settings are compared by the accuracy on validation images, held out of the training images;
    those that are best are tested on the test images, once, at the end.

    Args:
        search: names of searches, or YAML files.
        values: to try of the one option that `search` names, with commas, instead of its own.
        how: try all points of the searches, or draw some from the space of one.
        out: folder of all files, by path or URI; by default runs/tune-SEARCH-n.
        resume: auto: if `out` holds such a search, go on with it.
        gpus_per_trial: shared by a trial's processes; by default what `gpus_per_actor` says.
        log: mlflow, wandb: tell them, too.
        listener: is told what happens, as it happens.
        **options: of the runs, as `condense` takes them.

    Raises:
        UserError: wrong options, data or resources, or another search in `out`.
        IdmRayError: no run came to its end.
    """
    if resume == "auto" and out is None:
        raise UserError("--resume auto needs --out: the folder of the search that is to go on")
    names = [search] if isinstance(search, str) else list(dict.fromkeys(search))
    searches = _searches(names, values)
    _check(searches, how)
    check_loggers(log)
    given = plain_values(options)
    pauses = isinstance(how, Drawing) and how.early_stopping == "on"
    runs = options_of_runs(given, gpus_per_trial, pauses=pauses)
    base, info, notes = resolve(runs)
    if "data" in given:  # as it is written down; `runs` has it as it is used
        given["data"] = shown(given["data"])
    folder = Location.at(out or next_free("runs", f"tune-{searches[0].name}"))
    searching = _Searching(
        runs=runs,
        given=given,
        base=base,
        info=info,
        folder=folder,
        listener=listener,
        log=log,
    )
    go = searching.ready(searches, how)
    request = {
        "search": names,
        "values": values,
        "how": dataclasses.asdict(how),
        "options": searching.given,
    }
    for note in (*notes, Announcement(f"writing to {shown(out) if out else folder}")):
        listener(note)
    is_new = _begin(folder, request, resume)
    try:
        return go()
    except ResourceError:
        if is_new:  # nothing was run: whoever asks for less begins anew
            (folder / REQUEST).delete()
        raise
    except (KeyboardInterrupt, SystemExit):
        place = shlex.quote(str(folder))
        text = f"the search goes on with the same command and --resume auto --out {place}"
        listener(Announcement(text))
        raise


def listed(**options: Any) -> tuple[Listed, ...]:
    """The named searches, and what they would try in a run of these options."""
    return listing(resolve(options_of_runs(options, None))[0])


def _searches(names: Sequence[str], values: str | None) -> list[Search]:
    if values is None:
        return [find(name) for name in names]
    if len(names) != 1:
        raise UserError(f"expected one --search for --values, got {', '.join(names)}")
    return [with_values(names[0], values)]


def _check(searches: Sequence[Search], how: Ablation | Drawing) -> None:
    """Refuse what does not go together."""
    names = [one.name for one in searches]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"expected searches with names of their own, found two called {name}; name the "
                "files otherwise"
            )
    if isinstance(how, Ablation):
        for one in searches:
            if one.axis.scale == "trials":
                raise UserError(
                    f"search {one.name} draws from a space and needs a budget: give --budget, "
                    "such as 20 (trials) or 2h"
                )
    elif len(searches) != 1:
        raise UserError(f"expected one --search for --budget, got {', '.join(names)}")


def _check_space(space: Mapping[str, Distribution], budget: Budget) -> None:
    """Refuse to draw more often than there are settings to draw."""
    if not all(isinstance(one, Choice) for one in space.values()):
        return
    settings = math.prod(len(one.ends) for one in space.values())
    if budget.trials is None or budget.trials > settings:
        raise UserError(
            f"expected a budget of at most {settings} trials for {' x '.join(space)}, of which "
            "there are no more settings; leave out --budget to try them all, or search in ranges "
            "(--search all)"
        )


def _begin(folder: Location, request: Mapping[str, Any], resume: str) -> bool:
    """Write down what is asked, or make sure that the same was asked before.

    Returns:
        Whether nobody asked before.

    Raises:
        UserError: the folder holds a search, and none is to go on, or another one.
    """
    if resume not in ("never", "auto"):
        raise UserError(f"resume must be never or auto, got {resume!r}")
    if holds_run(folder):
        raise UserError(
            f"expected a folder for a search, found a run in {folder}; choose another --out"
        )
    place = folder / REQUEST
    if place.exists():
        if resume == "never":
            raise UserError(
                f"expected a new folder, found a search in {folder}; go on with it by --resume "
                "auto, or choose another --out"
            )
        stored = yaml.safe_load(place.read_bytes()) or {}
        differing = [name for name in request if stored.get(name) != request[name]]
        if differing:
            found = "; ".join(
                f"{name} {stored.get(name)} there, {request[name]} now" for name in differing
            )
            raise UserError(
                f"the search in {folder} was asked otherwise: {found}; ask the same, or choose "
                "another --out"
            )
        return False
    with place.atomic_write() as file:
        file.write(yaml.safe_dump(dict(request), sort_keys=False).encode())
    return True


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Searching:
    """A search whose request is in its folder.

    Attributes:
        runs: options of all runs.
        given: those of them that the user gave, without a password.
        base: the config of a run of them.
        info: of the data.
        folder: of the search.
        listener: is told what happens.
        log: other loggers.
    """

    runs: Mapping[str, Any]
    given: Mapping[str, Any]
    base: RunConfig
    info: DatasetInfo
    folder: Location
    listener: Listener
    log: Sequence[str]

    def ready(self, searches: Sequence[Search], how: Ablation | Drawing) -> Callable[[], Tuned]:
        """What is to be done, its settings checked, before anything is written.

        Raises:
            UserError: wrong settings.
        """
        if isinstance(how, Drawing):
            space = searches[0].distributions(self.base)
            if not space:
                raise UserError(
                    f"expected a search that settings can be drawn from for --budget, got "
                    f"{searches[0].name}, whose points are a grid; leave out --budget"
                )
            _check_space(space, parse_budget(how.budget))
            for name, distribution in space.items():
                for value in distribution.ends:
                    settled({**self.runs, name: value}, self.info)
            return partial(self._draws, searches[0], space, how)
        first = self.base.condense.seed
        seeds = range(first, first + how.seeds)
        selections = [select(one, self.base, seeds) for one in searches]
        trials = grid_trials(selections, self.runs, self.info, seeds)
        return partial(self._grid, selections, trials)

    def _grid(self, selections: Sequence[Selection], trials: Sequence[GridTrial]) -> Tuned:
        """Run the grids of some searches."""
        for selection in selections:
            if selection.note:
                self.listener(Announcement(selection.note))
        jobs = list({trial.job.name: trial.job for trial in trials}.values())
        done = {
            job.name: summary for job in jobs if (summary := complete(job, self.folder)) is not None
        }
        left = [job for job in jobs if job.name not in done]
        self.listener(Announcement(f"{len(jobs)} runs, {len(done)} of them complete"))
        from idm_ray.runtime.tuning import Grid  # noqa: PLC0415 -- Ray is imported here

        by_name = {trial.job.name: trial for trial in reversed(trials)}
        logbook, counts = self._run(
            Grid(jobs=tuple(left)),
            left,
            lambda number, drawn: by_name[left[number].name].result,
            total=len(left),
        )
        results = {result.folder: result for result in logbook.results}
        results |= {
            name: _ended(by_name[name].result, final_report(summary))
            for name, summary in done.items()
        }
        every = [_as(trial, results[trial.job.name]) for trial in trials]
        found = [
            Found(
                search=selection.search,
                rows=tabulate_grid(selection, _of(every, selection.search)),
                results=_of(every, selection.search),
                own=selection.own,
                is_drawn=False,
            )
            for selection in selections
        ]
        return self._conclude(found, counts)

    def _draws(self, search: Search, space: Mapping[str, Distribution], how: Drawing) -> Tuned:
        """Draw settings of one search within a budget."""
        from idm_ray.runtime.tuning import Draws  # noqa: PLC0415 -- Ray is imported here

        past = read_past(self.folder)
        budget, iterations = parse_budget(how.budget), self.base.condense.iterations
        stops = how.early_stopping == "on"
        at = ",".join(map(str, rungs(iterations))) if stops else ""
        make = partial(
            _drawn_job,
            {**self.runs, "eval_at": at or None},
            self.info,
            queue_key=None if decide_sequence(search.varies) else shared_queue_key(self.base),
        )
        base = make(0, {})
        draws = Draws(
            base=base,
            make=make,
            space=space,
            first=past.drawn or [_own(self.base, space)],
            searcher=how.searcher,
            stops=stops,
            seed=self.base.condense.seed,
            trials=budget.trials,
            seconds=None if budget.seconds is None else budget.seconds - past.seconds,
        )
        logbook, counts = self._run(
            draws,
            [base] if _is_left(budget, past, is_complete=(self.folder / SUMMARY).exists()) else [],
            partial(_drawn_result, search.name, self.base.condense.seed),
            total=budget.trials,
            past=past,
        )
        results = logbook.results
        found = Found(
            search=search, rows=tabulate(results), results=results, own=None, is_drawn=True
        )
        return self._conclude([found], counts)

    def _run(
        self,
        tried: "Tried",
        lodgers: Sequence[Job],
        begin: Callable[[int, Mapping[str, Any]], TrialResult],
        *,
        total: int | None,
        past: Past = _NEW,
    ) -> tuple[Logbook, tuple[Counts, ...]]:
        logbook = Logbook(self.folder, begin, self.listener, total=total, past=past)
        if not lodgers:
            return logbook, ()
        from idm_ray.runtime.trial_rooms import TrialRooms  # noqa: PLC0415 -- Ray is imported
        from idm_ray.runtime.tuning import loggers, run_trials  # noqa: PLC0415

        with TrialRooms(lodgers) as rooms:
            run_trials(
                tried,
                rooms,
                partial(run_job, folder=self.folder, earlier=past.told),
                storage=self.folder,
                callbacks=list(loggers(self.log, self.folder.name)),
                told=logbook,
            )
            return logbook, tuple(rooms.counts())

    def _conclude(self, found: Sequence[Found], counts: Sequence[Counts]) -> Tuned:
        title = (
            f"{self.info.name}, {self.base.condense.ipc} per class, "
            f"{self.base.condense.iterations} iterations"
        )
        place = Place(folder=self.folder, title=title, given=self.given, runs=self.runs)
        return conclude(found, counts, place)


def _is_left(budget: Budget, past: Past, *, is_complete: bool) -> bool:
    """Whether anything of a budget is left for a search that goes on."""
    is_in_time = budget.seconds is None or past.seconds < budget.seconds
    return not is_complete and is_in_time


def _drawn_job(
    runs: Mapping[str, Any],
    info: DatasetInfo,
    number: int,
    drawn: Mapping[str, Any],
    *,
    queue_key: str | None,
) -> Job:
    config = settled({**runs, **drawn}, info)
    return job_of(_folder_of(number), config, info, queue_key=queue_key)


def _drawn_result(search: str, seed: int, number: int, drawn: Mapping[str, Any]) -> TrialResult:
    label = ", ".join(f"{name} {value_text(value)}" for name, value in drawn.items())
    return TrialResult(
        search=search,
        label=f"trial {number}: {label}",
        options=drawn,
        seed=seed,
        status="running",
        folder=_folder_of(number),
    )


def _folder_of(number: int) -> str:
    return f"{TRIALS}/trial-{number}"


def _own(base: RunConfig, space: Mapping[str, Distribution]) -> Mapping[str, Any]:
    """The run's own settings, as the first to try, or what is nearest to them.

    A queue larger than is ever filled, say, is as good as the largest one that is.
    """
    flat = base.flat()
    return {name: distribution.nearest(flat[name]) for name, distribution in space.items()}


def _ended(result: TrialResult, report: Mapping[str, Any]) -> TrialResult:
    return dataclasses.replace(
        result,
        status="done",
        accuracies=tuple(report["accuracies"]),
        seconds=report["seconds"],
        iterations=report["iteration"],
    )


def _as(trial: GridTrial, ran: TrialResult) -> TrialResult:
    """The result of a run, as that of one of the trials that it is."""
    blank = trial.result
    return dataclasses.replace(
        ran, search=blank.search, label=blank.label, options=blank.options, seed=blank.seed
    )


def _of(results: Sequence[TrialResult], search: Search) -> list[TrialResult]:
    return [result for result in results if result.search == search.name]
