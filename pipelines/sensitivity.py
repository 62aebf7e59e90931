"""What the method is sensitive to: Figures 5 to 7 of the paper, on CIFAR-100 at 10 per class.

    python pipelines/sensitivity.py                               # downloads CIFAR-100
    python pipelines/sensitivity.py --search train_steps --data path/to/cifar100
    ray job submit --working-dir . -- python pipelines/sensitivity.py --out s3://bucket/sensitivity

The weight of the regularization (lambda_reg, Fig. 5), the steps of each training of a network
(train_steps, Fig. 6), and the size of the queue (queue_size, Fig. 7): every value with 2 seeds,
20,001 iterations each, for a cluster of GPUs. Settings that cannot differ run once, and runs that
differ in the weight alone share one queue for each seed.
"""

from idm_ray.pipeline import Settings, Tell, search_pipeline, smoke_images

FIGURES = ("lambda_reg", "train_steps", "queue_size")


def sensitivity(given: Settings, tell: Tell, *, smoke: bool) -> Settings:
    """Sweep what Figures 5 to 7 of the paper sweep, and draw them."""
    # Without --search, all three; what the user gives wins.
    given["search"] = given["search"] or FIGURES
    given["ipc"] = given["ipc"] or 10

    # A rehearsal on small images of its own, which need no download.
    if smoke:
        given |= {"data": smoke_images(32), "seeds": given["seeds"] or 1, "ipc": 1}
        tell("a rehearsal: what is drawn shows that everything works together, and nothing else")
    return {**given, "data": given["data"] or "cifar100"}


if __name__ == "__main__":
    search_pipeline(sensitivity)()
