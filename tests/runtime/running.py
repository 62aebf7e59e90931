"""Small runs, for the tests of this folder."""

from idm_ray.checkpoints.folder import CheckpointFolder
from idm_ray.checkpoints.saving import Saving
from idm_ray.checks import Interval
from idm_ray.config import RunConfig
from idm_ray.data.dataset import open_dataset
from idm_ray.layout import settle
from idm_ray.results.condensed import read_arrays
from idm_ray.run import condense
from idm_ray.storage import Location

TINY = {
    "data": "digits",
    "limit_per_class": 40,
    "iterations": 6,
    "batch_real": 16,
    "batch_train": 32,
    "train_steps": 2,
    "train_interval": 2,
    "push_interval": 2,
    "queue_size": 4,
    "classes_per_group": 2,
    "threads": 1,
    "device": "cpu",
    "repeats": 0,
}


def settled(**options):
    """A settled config of a tiny run, and what its data are."""
    config = RunConfig.from_flat({**TINY, **options})
    info = open_dataset(config.data).info
    return settle(config, info.image_shape, info.num_classes), info


def begin(runner, folder):
    """Start a runner that writes its checkpoints to a folder; the reports of pretraining."""
    saving = Saving(
        CheckpointFolder(Location.at(folder)),
        Interval(seconds=300.0),
        num_groups=len(runner.plan.groups),
        groups_meet=runner.plan.rounds > 1,
    )
    list(runner.restore(saving))
    reports = list(runner.pretrain())
    list(runner.start())
    return reports


def pixels_of(folder, **options):
    """Run into a folder and give the condensed images."""
    finished = condense(out=folder, **{**TINY, **options})
    images, _, _ = read_arrays(finished.folder / "condensed.parquet")
    return images
