"""CIFAR-10 at 1, 10 or 50 images per class: the first column of the paper's Table 1.

    python pipelines/cifar10.py --ipc 10                         # downloads CIFAR-10
    python pipelines/cifar10.py --ipc 10 --data path/to/cifar10  # or Parquet files, or folders
    python pipelines/cifar10.py --ipc 1 --iterations 400 --batch-real 256 --train-interval 4

The last one takes minutes on a laptop and comes close to the paper's figure; the published setting
runs 20,001 iterations, for GPUs.
"""

from idm_ray.pipeline import Settings, Tell, pipeline, smoke_images


def cifar10(given: Settings, tell: Tell, *, smoke: bool) -> Settings:
    """Condense CIFAR-10 with the authors' published settings."""
    # A rehearsal on small images of its own, which need no download.
    if smoke:
        given["data"] = smoke_images(32)

    # The recipe knows what was published for each number of images per class: ConvNet-3, tiles of
    # 2 x 2, a queue of up to 100 networks; what the user gives wins.
    tell("the paper (Table 1) reports 45.6, 58.6 and 67.5 % at 1, 10 and 50 images per class")
    return {"recipe": "cifar10", "data": "cifar10", **given}


if __name__ == "__main__":
    pipeline(cifar10)()
