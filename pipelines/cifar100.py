"""CIFAR-100 at 1, 10 or 50 images per class: the second column of the paper's Table 1.

    python pipelines/cifar100.py --ipc 10                         # downloads CIFAR-100
    python pipelines/cifar100.py --ipc 10 --data path/to/cifar100  # or Parquet files, or folders

The published settings run 20,001 iterations, for GPUs; the steps per network (K) are 10 at 1 and 50
images per class, and 50 at 10.
"""

from idm_ray.pipeline import Settings, Tell, pipeline, smoke_images


def cifar100(given: Settings, tell: Tell, *, smoke: bool) -> Settings:
    """Condense CIFAR-100 with the authors' published settings."""
    # A rehearsal on small images of its own, which need no download.
    if smoke:
        given["data"] = smoke_images(32)

    # The recipe knows what was published for each number of images per class: ConvNet-3, tiles of
    # 2 x 2, a queue of up to 100 networks; what the user gives wins.
    tell("the paper (Table 1) reports 20.1, 45.1 and 50.0 % at 1, 10 and 50 images per class")
    return {"recipe": "cifar100", "data": "cifar100", **given}


if __name__ == "__main__":
    pipeline(cifar100)()
