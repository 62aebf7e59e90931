"""Continual learning: Figure 8 of the paper, on CIFAR-100 at 20 images per class.

    python pipelines/continual.py                               # downloads CIFAR-100; 5 steps
    python pipelines/continual.py --steps 10 --data path/to/cifar100
    python pipelines/continual.py --data digits --methods idm --orders 1 --local

Classes come in steps. Of each step a small memory is kept, of condensed images or of selected ones,
and at each step a fresh network is trained on all memories so far and tested on all classes so far.
Five class orders, three networks each, 20,001 iterations a memory: for a cluster of GPUs. What was
interrupted goes on by the same command with the same --out.
"""

from idm_ray.pipeline import Settings, Tell, continual_pipeline, smoke_images


def continual(given: Settings, tell: Tell, *, smoke: bool) -> Settings:
    """Learn classes step by step from small memories, as Figure 8 of the paper does."""
    # A rehearsal on small images of its own: five classes in two steps.
    if smoke:
        tell("a rehearsal: what is drawn shows that everything works together, and nothing else")
        small = {"steps": 2, "orders": 1, "ipc": 2}
        given |= {name: given[name] or value for name, value in small.items()}
        given["data"] = smoke_images(32)

    # The recipe of CIFAR-100 has no row for 20 per class and takes that for 10, as the paper says.
    return {**given, "data": given["data"] or "cifar100"}


if __name__ == "__main__":
    continual_pipeline(continual)()
