"""Tiny data and settings for the tests of this folder."""

import numpy as np

from idm_ray.algorithm.numerics import Numerics
from idm_ray.bench.settings import Setting
from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.layout import settle
from idm_ray.plan import Plan

TINY = Setting(
    name="tiny",
    image_shape=(3, 8, 8),
    num_classes=3,
    images_per_class=6,
    options={
        "ipc": 2,
        "batch_real": 4,
        "network": "convnet-2",
        "image_step": "per_class",
        "num_trained_models": 2,
        "train_steps": 2,
        "batch_train": 8,
    },
)


def info_of(setting):
    """A data set in the shape of a setting, without its images."""
    return DatasetInfo(
        source="nowhere",
        name=setting.name,
        known_as=None,
        class_names=tuple(str(c) for c in range(setting.num_classes)),
        image_shape=setting.image_shape,
        train_counts=(setting.images_per_class,) * setting.num_classes,
        test_counts=(1,) * setting.num_classes,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        flips=True,
        fingerprint="0" * 64,
        skipped=0,
    )


def plan_of(setting, **options):
    """A plan without data."""
    config = RunConfig.from_flat({**setting.options, **options})
    config = settle(config, setting.image_shape, setting.num_classes)
    return Plan(config=config, info=info_of(setting), numerics=Numerics())


def offsets_of(setting):
    """Rows where each class begins, and the end."""
    return np.arange(setting.num_classes + 1) * setting.images_per_class
