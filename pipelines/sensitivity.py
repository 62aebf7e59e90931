"""What the method is sensitive to: Figures 5 to 7 of the paper, on CIFAR-100 at 10 per class.

    python pipelines/sensitivity.py                               # downloads CIFAR-100
    python pipelines/sensitivity.py --search train_steps --data path/to/cifar100
    ray job submit --working-dir . -- python pipelines/sensitivity.py --out s3://bucket/sensitivity

The weight of the regularization (lambda_reg, Fig. 5), the steps of each training of a network
(train_steps, Fig. 6), and the size of the queue (queue_size, Fig. 7): every value with 2 seeds,
20,001 iterations each, for a cluster of GPUs. Settings that cannot differ run once, and runs that
differ in the weight alone share one queue for each seed.
"""

from idm_ray.pipeline import Settings, Tell, on_cifar100, search_pipeline

FIGURES = ("lambda_reg", "train_steps", "queue_size")


def sensitivity(given: Settings, tell: Tell, *, smoke: bool) -> Settings:
    """Sweep what Figures 5 to 7 of the paper sweep, and draw them."""
    return on_cifar100(given, tell, searches=FIGURES, smoke=smoke)


if __name__ == "__main__":
    search_pipeline(sensitivity)()
