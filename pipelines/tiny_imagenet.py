"""TinyImageNet at 1, 10 or 50 images per class: the third column of the paper's Table 1.

    python pipelines/tiny_imagenet.py --data path/to/tiny-imagenet-200 --ipc 10

The folder is used as it is distributed: 200 classes of 500 images of 64 pixels, and the validation
images, which are the test images here, with their list of labels.
"""

from idm_ray.errors import UserError
from idm_ray.pipeline import Settings, Tell, pipeline, smoke_images


def tiny_imagenet(given: Settings, tell: Tell, *, smoke: bool) -> Settings:
    """Condense TinyImageNet with the authors' published settings."""
    # A rehearsal on small images of its own.
    if smoke:
        given["data"] = smoke_images(64)
    if "data" not in given:
        raise UserError(
            "expected --data path/to/tiny-imagenet-200, got none; the folder of that name is what "
            "cs231n.stanford.edu/tiny-imagenet-200.zip unpacks to"
        )

    # ConvNet-3 as for CIFAR, so that the head sees 8192 features; K and lambda_reg grow at 50.
    tell("the paper (Table 1) reports 10.1, 21.9 and 27.7 % at 1, 10 and 50 images per class")
    return {"recipe": "tinyimagenet", **given}


if __name__ == "__main__":
    pipeline(tiny_imagenet)()
