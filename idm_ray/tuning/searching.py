"""Carries a search out: runs its trials, those of a grid or of a budget, and concludes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.execution import Listener
from idm_ray.progress import Announcement
from idm_ray.recorded_queue import Counts
from idm_ray.searches.job import Job
from idm_ray.searches.queue_sequence import decide_sequence, shared_queue_key
from idm_ray.searches.rungs import rungs
from idm_ray.searches.same_runs import Selection, select
from idm_ray.searches.search import Distribution, Search
from idm_ray.searches.trials import TrialResult, tabulate, tabulate_grid
from idm_ray.storage import Location
from idm_ray.tuning.conclusion import SUMMARY, Found, Place, Tuned, conclude
from idm_ray.tuning.drawn import drawn_job, drawn_result, is_left, own_settings, space_of
from idm_ray.tuning.grid import GridTrial, as_trial, complete, ended, grid_trials
from idm_ray.tuning.logbook import Logbook, Past, read_past
from idm_ray.tuning.request import Ablation, Drawing, parse_budget
from idm_ray.tuning.work import final_report, run_job

if TYPE_CHECKING:
    from idm_ray.runtime.tried import Tried

_NEW = Past()


@dataclass(frozen=True, kw_only=True, slots=True)
class Searching:
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
            budget = parse_budget(how.budget)
            space = space_of(searches[0], budget, self.base, self.runs, self.info)
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
        from idm_ray.runtime.tried import Grid  # noqa: PLC0415 -- Ray is imported here

        by_name = {trial.job.name: trial for trial in reversed(trials)}
        logbook, counts = self._run(
            Grid(
                jobs=tuple(left),
                settings=tuple(
                    {**trial.point.options, "seed": trial.seed}
                    for trial in (by_name[job.name] for job in left)
                ),
            ),
            left,
            lambda number, drawn: by_name[left[number].name].result,
            total=len(left),
        )
        results = {result.folder: result for result in logbook.results}
        results |= {
            name: ended(by_name[name].result, final_report(summary))
            for name, summary in done.items()
        }
        every = [as_trial(trial, results[trial.job.name]) for trial in trials]
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
        from idm_ray.runtime.tried import Draws  # noqa: PLC0415 -- Ray is imported here

        past = read_past(self.folder)
        budget, iterations = parse_budget(how.budget), self.base.condense.iterations
        stops = how.early_stopping == "on"
        at = ",".join(map(str, rungs(iterations))) if stops else ""
        make = partial(
            drawn_job,
            {**self.runs, "eval_at": at or None},
            self.info,
            queue_key=None if decide_sequence(search.varies) else shared_queue_key(self.base),
        )
        base = make(0, {})
        draws = Draws(
            base=base,
            make=make,
            space=space,
            first=past.drawn or [own_settings(self.base, space)],
            searcher=how.searcher,
            stops=stops,
            seed=self.base.condense.seed,
            trials=budget.trials,
            seconds=None if budget.seconds is None else budget.seconds - past.seconds,
        )
        logbook, counts = self._run(
            draws,
            [base] if is_left(budget, past, is_complete=(self.folder / SUMMARY).exists()) else [],
            partial(drawn_result, search.name, self.base.condense.seed),
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


def _of(results: Sequence[TrialResult], search: Search) -> list[TrialResult]:
    return [result for result in results if result.search == search.name]
