"""What the bench runs: shapes of data and settings of the method. Light to import."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idm_ray.config import RunConfig
from idm_ray.recipes import PUBLISHED


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One comparison.

    Attributes:
        name: as `--setting` takes it.
        image_shape: (C, H, W) with C = 3.
        num_classes: of the data.
        images_per_class: training images of each class.
        options: flat options of the method.
    """

    name: str
    image_shape: tuple[int, int, int]
    num_classes: int
    images_per_class: int
    options: Mapping[str, Any]

    def config(self, data: Path, cache: Path, machine: Mapping[str, Any]) -> RunConfig:
        """The config of a run with this setting.

        Args:
            data: folder of the images, in this setting's shape.
            cache: folder for the decoded images.
            machine: flat options of `MachineConfig`.

        Raises:
            UserError: a wrong option.
        """
        places = {"data": str(data), "cache_dir": str(cache), "local": True}
        return RunConfig.from_flat({**self.options, **machine, **places})


def _cifar(num_classes: int, ipc: int, **changes: Any) -> Setting:
    """CIFAR's shape; every iteration trains two networks by ten steps of 256 images."""
    name = f"cifar{num_classes}-ipc{ipc}"
    if "train_interval" in changes:
        name += f"-interval{changes['train_interval']}"
    trained = {"num_trained_models": 2, "train_steps": 10, "batch_train": 256}
    return Setting(
        name=name,
        image_shape=(3, 32, 32),
        num_classes=num_classes,
        images_per_class=50_000 // num_classes,
        options={
            **PUBLISHED[f"cifar{num_classes}"][ipc],
            "ipc": ipc,
            "batch_real": 256,
            **trained,
            **changes,
        },
    )


_IMAGENET_224 = Setting(
    name="imagenet-224",
    image_shape=(3, 224, 224),
    num_classes=4,
    images_per_class=64,
    # Small enough for a laptop: with float32 and all graphs kept, each image of this size takes
    # about 100 MB in the published implementation.
    options={
        **PUBLISHED["imagenet_subset"][1],
        "ipc": 1,
        "batch_real": 16,
        "num_trained_models": 1,
        "train_steps": 1,
        "batch_train": 16,
    },
)

SETTINGS: Mapping[str, Setting] = {
    setting.name: setting
    for setting in (
        _cifar(10, 1),
        _cifar(10, 10),
        _cifar(10, 10, train_interval=30),
        _cifar(100, 10),
        _IMAGENET_224,
    )
}
DEFAULT_SETTING = "cifar10-ipc10"
ORCHESTRATION = "orchestration"
"""The setting without data: what Ray takes."""
