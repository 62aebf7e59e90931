"""A comparison, from what is asked to what is found."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from idm_ray.checks import wrong
from idm_ray.comparison.request import Request
from idm_ray.comparison.work import Compared, Comparison
from idm_ray.execution import Listener
from idm_ray.resolving import plain_values
from idm_ray.results.run_folder import next_free
from idm_ray.storage import Location


def compare(
    *,
    methods: str | Sequence[str],
    out: str | Path | None = None,
    listener: Listener = lambda event: None,
    **asked: Any,
) -> Compared:
    """Make the sets of several methods and train the same networks on each of them.

    What is in the folder already is not computed again: a comparison that was interrupted goes on,
    and one that is asked for more is completed.

    Args:
        methods: names of methods; `whole` for all real images.
        out: folder of all files, by path or URI; by default runs/compare-n.
        listener: is told what happens.
        **asked: fields of `comparison.request.Request`: ipcs, seeds, networks, protocol and so on;
            and options of `idm_ray.config` for all runs.

    Raises:
        UserError: wrong options or data, or sets of other settings in `out`.

    >>> quick = {"eval_epochs": 2, "repeats": 1, "iterations": 2, "local": True}
    >>> found = idm_ray.compare(methods="random,idm", data="digits", **quick)
    >>> [(cell.method, len(cell.all_accuracies)) for cell in found.cells]
    [('random', 1), ('idm', 1)]
    """
    request = make_request(methods, asked)
    folder = Location.at(out or next_free("runs", "compare"))
    return Comparison(request, folder, listener).run()


def make_request(methods: str | Sequence[str], asked: Mapping[str, Any]) -> Request:
    """What is asked for, from one flat mapping of fields of `Request` and options of runs.

    Raises:
        UserError: something cannot be asked.
    """
    own = {field.name for field in dataclasses.fields(Request)} - {"methods", "options"}
    fields = {name: value for name, value in asked.items() if name in own}
    options = {name: value for name, value in asked.items() if name not in own}
    for name in ("ipcs", "networks", "condense_networks"):
        if name in fields:
            fields[name] = _several(name, fields[name])
    overrides = fields.get("overrides", {})
    if not isinstance(overrides, Mapping) or not all(
        isinstance(value, Mapping) for value in overrides.values()
    ):
        raise wrong("overrides", overrides, "options by method, such as {'idm': {'lr_img': 0.1}}")
    return Request(methods=_several("methods", methods), options=plain_values(options), **fields)


def _several(name: str, given: Any) -> tuple[Any, ...]:
    """Values of a list, or of a text with commas between them; each once."""
    if isinstance(given, str):
        given = [part.strip() for part in given.split(",") if part.strip()]
    if not isinstance(given, Sequence):
        raise wrong(name, given, "a list, or a text with commas between them")
    return tuple(dict.fromkeys(given))
