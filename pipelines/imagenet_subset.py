"""ImageNet Subset at 224 pixels: the paper's experiment on a hundred classes, out of shards.

Once, near the data (the bytes of each class then lie together, with an index):

    idm-ray shards path/to/ILSVRC2012 --out s3://bucket/imagenet --size 224

Then, here or on a cluster, 1, 10 or 50 images per class:

    python pipelines/imagenet_subset.py --shards s3://bucket/imagenet --ipc 10
    ray job submit -- python pipelines/imagenet_subset.py --shards s3://bucket/imagenet --ipc 10

The run folder that it leaves is described in the README.
"""

import os

import click

from idm_ray.config import DataConfig
from idm_ray.data.classes import write_classes
from idm_ray.data.known import IMAGENET_SUBSET
from idm_ray.data.shard_source import find_shards
from idm_ray.errors import UserError
from idm_ray.pipeline import Settings, Tell, pipeline, smoke_shards
from idm_ray.storage import shown


@click.option("--shards", help="A folder or a URI. [IDM_RAY_SHARDS]")
def imagenet_subset(given: Settings, tell: Tell, *, smoke: bool, shards: str | None) -> Settings:
    """Condense the ImageNet Subset of the paper, or any classes of a set of shards."""
    # A rehearsal goes the same way with images that it draws and writes as shards itself.
    if smoke:
        given = {"network": "convnet-4", **given}
        shards = smoke_shards(given, shards, size=64)
    shards = shards or given.get("data") or os.environ.get("IDM_RAY_SHARDS")
    if not shards:
        raise UserError(
            "expected --shards URI or the environment variable IDM_RAY_SHARDS, got neither; write "
            "shards with: idm-ray shards path/to/ILSVRC2012 --out URI --size 224"
        )

    # The classes are those of the authors, in their order, unless the shards are of others.
    if "classes" not in given:
        present = _class_names(shards)
        if present.issuperset(IMAGENET_SUBSET):
            given["classes"] = write_classes(IMAGENET_SUBSET)
            tell(f"using the {len(IMAGENET_SUBSET)} classes of the paper's ImageNet Subset")
        else:
            tell(f"using all {len(present)} classes: the paper's hundred are not among them")

    # Settings of the published commands for this number of images per class: ConvNet-6, real
    # batches of 128, K = 10, lambda_reg 3; at 50 per class also supplement 3's pretrained start.
    return {"recipe": "imagenet_subset", **given, "data": shards}


def _class_names(shards: str) -> set[str]:
    found = find_shards(DataConfig(data=shards))
    if found is None:
        raise UserError(
            f"expected shards with a manifest.json, found none in {shown(shards)}; write them "
            f"with: idm-ray shards SOURCE --out {shown(shards)} --size 224"
        )
    return set(found.manifest.class_names)


if __name__ == "__main__":
    pipeline(imagenet_subset)()
