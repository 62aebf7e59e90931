"""A whole run: from options to a run's folder with the condensed set and what it is worth."""

import contextlib
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from idm_ray.algorithm.numerics import Numerics
from idm_ray.checkpoints.folder import CheckpointFolder
from idm_ray.checkpoints.saving import Saving
from idm_ray.checks import check_types, parse_interval, refuse_unknown, wrong
from idm_ray.config import RunConfig, option_names
from idm_ray.data.dataset import DatasetInfo, open_dataset
from idm_ray.errors import IdmRayError, UserError
from idm_ray.evaluation_jobs import marks
from idm_ray.execution import Execution, Finished, Listener, Runner
from idm_ray.layout import condensing_work
from idm_ray.plan import Plan
from idm_ray.progress import Announcement
from idm_ray.report import provenance
from idm_ray.resolving import absolute, plain_values, resolve
from idm_ray.results.run_config import parse_config
from idm_ray.results.run_files import holds_run
from idm_ray.results.run_folder import RunFolder, next_free
from idm_ray.same_numbers import NEUTRAL_OPTIONS, differences
from idm_ray.storage import Location, shown


def condense(
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: Literal["never", "auto"] = "never",
    listener: Listener = lambda event: None,
    **options: Any,
) -> Finished:
    """Condense a data set and say how good the result is.

    Args:
        out: folder of the run, by path or URI; by default runs/SOURCE-METHOD-ipcN-n.
        overwrite: replace the run that `out` holds.
        resume: auto: if `out` holds a run, go on with it, as it must be one of the same options.
        listener: is told what happens, as it happens.
        **options: any options of `idm_ray.config`, by their flat names.

    Returns:
        The run's folder and its summary (the content of summary.json).

    Raises:
        UserError: wrong options, data or resources.
        NonFiniteLossError: the images diverged.
        ActorLostError: more processes of the run died than max_failures.
        StorageError: the folder is remote, and its store went on failing; at the end of the run
            it names the local folder that holds the results.

    >>> found = idm_ray.condense(data="digits", ipc=1, iterations=3, eval_epochs=2, local=True)
    >>> found.folder.name, found.summary["num_classes"]
    ('digits-idm-ipc1-1', 10)
    """
    _check_own(resume, out, overwrite=overwrite)
    return condense_with(
        make_runner, options, out=out, overwrite=overwrite, resume=resume, listener=listener
    )


class MakeRunner(Protocol):
    """Makes the runner of a settled config, as `make_runner` does."""

    def __call__(
        self,
        config: RunConfig,
        info: DatasetInfo,
        *,
        pixels: float,
        numerics: Numerics | None = None,
    ) -> Runner:
        """Reserve the runner's resources."""


def condense_with(
    make: MakeRunner,
    options: Mapping[str, Any],
    *,
    out: str | Path | None,
    overwrite: bool,
    resume: str,
    listener: Listener,
    name: str | None = None,
) -> Finished:
    """As `condense`, on a runner that the caller makes; `name` as for `Execution`."""
    config, info, notes = resolve(options)
    if out is not None and resume == "auto" and holds_run(Location.at(out)):
        with RunFolder.open(out) as folder:
            _refuse_differences(folder, config.flat())
            where = {name: config.flat()[name] for name in options if name in NEUTRAL_OPTIONS}
            return _go_on(folder, where, listener, make, name)
    out = out or _default_folder(config, info)
    RunFolder.check(out, overwrite=overwrite)
    for note in (*notes, Announcement(f"writing to {shown(out)}")):
        listener(note)
    work = condensing_work(config, info.image_shape, info.train_counts)
    runner = make(config, info, pixels=work)
    try:
        _introduce(runner, listener)
        # Not before: what cannot start must not remove an earlier run.
        with RunFolder.create(out, overwrite=overwrite) as folder:
            folder.start(provenance(runner.plan, runner.processors))
            saving = _saving(folder, runner.plan)
            return Execution(runner, folder, saving, listener, name=name).run()
    finally:
        runner.close()


def resume(
    folder: str | Path, *, listener: Listener = lambda event: None, **options: Any
) -> Finished:
    """Go on with a run that did not come to its end, to the numbers that it would have had.

    Args:
        folder: of the run, by path or URI.
        listener: is told what happens, as it happens.
        **options: where and how to go on, by flat names; only such as change no numbers.

    Returns:
        As `condense` does; at once for a run that is complete.

    Raises:
        UserError: there is no run, an option would change its numbers, the data are others, or
            what it was computed with is not to be had here.
        NonFiniteLossError, ActorLostError, StorageError: as `condense`.

    >>> idm_ray.resume("runs/demo").summary["iterations"]  # complete already
    3
    """
    with RunFolder.open(folder) as opened:
        given = plain_values(options)
        refuse_unknown(given, option_names())
        _refuse_differences(opened, given)
        where = {name: value for name, value in given.items() if name in NEUTRAL_OPTIONS}
        return _go_on(opened, where, listener, make_runner)


def _go_on(
    folder: RunFolder,
    where: Mapping[str, Any],
    listener: Listener,
    make: MakeRunner,
    name: str | None = None,
) -> Finished:
    """Go on with a run; `where` are options that change no numbers."""
    if not folder.is_complete:
        folder.lock()  # whoever had it may have come to the end meanwhile
    if folder.is_complete:
        with contextlib.suppress(OSError, IdmRayError):  # nobody needs them any more
            CheckpointFolder(folder.checkpoints).remove()
        listener(Announcement(f"the run in {folder.place} is complete"))
        finished = Finished(folder.place, folder.read_summary())
        listener(finished)
        return finished
    stored = folder.read_config()
    options = {**stored["options"], **where}
    if {"actors", "cpus_per_actor", "gpus_per_actor"} & where.keys() and "local" not in where:
        options["local"] = False  # there are actors on Ray only
    config = absolute(RunConfig.from_flat(options))
    info = open_dataset(config.data).info
    _check_data(stored["data"], info, config.data.data)
    numerics = _numerics(stored, folder)
    work = condensing_work(config, info.image_shape, info.train_counts)
    runner = make(config, info, pixels=work, numerics=numerics)
    try:
        listener(Announcement(f"resuming the run in {folder.place}"))
        _introduce(runner, listener)
        if strange := sorted({*runner.processors} - {*stored["processors"]}):
            listener(
                Announcement(
                    f"it began on {' and '.join(stored['processors'])}, this is "
                    f"{' and '.join(strange)}: the last bits of the numbers may differ",
                    warning=True,
                )
            )
        saving = _saving(folder, runner.plan)
        return Execution(runner, folder, saving, listener, name=name).run()
    finally:
        runner.close()


def _check_own(resume: str, out: str | Path | None, *, overwrite: bool) -> None:
    """Check what `condense` takes beside the config's options, which may come from a file, too."""
    if out is not None and not isinstance(out, str | os.PathLike):
        raise wrong("out", out, "text")
    if not isinstance(overwrite, bool):
        raise wrong("overwrite", overwrite, "true or false")
    if resume not in ("never", "auto"):
        raise wrong("resume", resume, "never or auto")
    if resume == "auto" and overwrite:
        raise UserError(
            "expected --resume auto or --overwrite, got both: one goes on with the run that --out "
            "holds, the other removes it"
        )
    if resume == "auto" and out is None:
        raise UserError("--resume auto needs --out: the folder of the run that is to go on")


def _refuse_differences(folder: RunFolder, given: Mapping[str, Any]) -> None:
    """Refuse to go on with other numbers than those that a run was begun for."""
    found = differences(folder.read_config()["options"], given)
    if found:
        raise UserError(
            f"the run in {folder.place} has other settings: {'; '.join(found)}; go on with those "
            "that it has, or choose another --out"
        )


def differing_settings(place: Location, config: RunConfig) -> tuple[str, ...]:
    """Tell in what a settled config differs from the run of a folder; nothing if it holds none."""
    file = place / "config.yaml"
    if not file.exists():
        return ()
    stored = parse_config(file.read_bytes(), str(file))
    return differences(stored["options"], config.flat())


def _check_data(stored: Mapping[str, Any], info: DatasetInfo, data: str) -> None:
    if info.fingerprint != stored["fingerprint"]:
        raise UserError(
            f"expected the images that the run began with (fingerprint {stored['fingerprint']}), "
            f"found others in {shown(data)} ({info.fingerprint}); put them back, or name where "
            "they are with --data"
        )


def _numerics(stored: Mapping[str, Any], folder: RunFolder) -> Numerics:
    """How a run was computed, as its config says; on what is there, too."""
    try:
        numerics = Numerics(**stored["numerics"])
        check_types(numerics)
        stored["processors"]
    except (KeyError, TypeError, UserError) as error:
        raise UserError(
            f"expected the numerics and processors of a run in {folder.place}/config.yaml, found "
            f"others ({error}); restore the file, or begin a new run"
        ) from error
    return numerics


def _introduce(runner: Runner, listener: Listener) -> None:
    for line in (*runner.notes, describe_numerics(runner.plan)):
        listener(Announcement(line))


def _saving(folder: RunFolder, plan: Plan) -> Saving:
    return Saving(
        CheckpointFolder(folder.checkpoints),
        parse_interval("checkpoint_interval", plan.config.machine.checkpoint_interval),
        num_groups=len(plan.groups),
        groups_meet=plan.rounds > 1,
    )


def _default_folder(config: RunConfig, info: DatasetInfo) -> Path:
    return next_free("runs", f"{info.name}-{config.condense.method}-ipc{config.condense.ipc}")


def make_runner(
    config: RunConfig, info: DatasetInfo, *, pixels: float, numerics: Numerics | None = None
) -> Runner:
    """The runner that a settled config asks for, its resources reserved.

    Args:
        config: settled.
        info: of the data.
        pixels: through networks, by which compiling is decided.
        numerics: of a run that is to go on; None to decide.
    """
    # Each runner is heavy, and the local one must work where there is no Ray.
    if config.machine.local:
        kind = importlib.import_module("idm_ray.local").LocalRunner
    else:
        kind = importlib.import_module("idm_ray.runtime.driver").RayRunner
    runner: Runner = kind(config, info, marks(config), pixels=pixels, numerics=numerics)
    return runner


def describe_numerics(plan: Plan) -> str:
    """How networks are computed, in one line."""
    numerics = plan.numerics
    how = "compiled" if numerics.compile else "not compiled"
    plain = numerics.precision == "float32" and not numerics.compile
    twice = ""
    if not (plain or plan.selects) and plan.matching.second_order:
        twice = " (gradients of gradients in float32, not compiled)"
    return (
        f"{plan.config.condense.network} in {numerics.precision}, {how}{twice}; "
        f"{len(plan.groups)} groups of up to {len(plan.groups[0])} classes"
    )
