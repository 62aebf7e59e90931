"""A search over settings, from what is asked to what is found: the paper's grids, or a budget."""

import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from idm_ray.errors import ResourceError, UserError
from idm_ray.execution import Listener
from idm_ray.progress import Announcement
from idm_ray.resolving import plain_values, resolve
from idm_ray.results.run_files import holds_run
from idm_ray.results.run_folder import next_free
from idm_ray.searches.catalog import Listed, listing
from idm_ray.searches.finding import find, with_values
from idm_ray.searches.search import Search
from idm_ray.storage import Location, shown
from idm_ray.tuning.conclusion import Tuned
from idm_ray.tuning.request import Ablation, Drawing, check_loggers, options_of_runs
from idm_ray.tuning.searching import Searching

_ABLATION = Ablation()

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

    >>> runs = {"iterations": 3, "eval_epochs": 2, "device": "cpu"}
    >>> found = idm_ray.tune(search="lambda_reg", values="0,0.5", **runs)
    >>> search, row = found.best
    >>> search.name, [sorted(row.options) for row in found.found[0].rows]
    ('lambda_reg', [['lambda_reg'], ['lambda_reg']])
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
    searching = Searching(
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
    return _carry_out(go, folder, listener, is_new=is_new)


def _carry_out(
    go: Callable[[], Tuned], folder: Location, listener: Listener, *, is_new: bool
) -> Tuned:
    """Run a search whose request is in its folder; say how it goes on if it is interrupted."""
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
