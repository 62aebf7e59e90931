"""What the parts of the method are worth: Tables 2 and 3 and Figure 3 of the paper, on CIFAR-100.

    python pipelines/ablation.py                                  # downloads CIFAR-100
    python pipelines/ablation.py --search pretrain_epochs --pretrained 600
    python pipelines/ablation.py --search partition --data path/to/shards --ipc 1
    ray job submit --working-dir . -- python pipelines/ablation.py --out s3://bucket/ablation

The parts one after the other (components, Table 2); tiles per side (partition, Table 3, which the
paper has of ImageNet Subset at 1 per class); DM on networks trained for 10 to 60 epochs, on random
ones, and with the queue (pretrain_epochs, Fig. 3; the paper has 600 networks for each number of
epochs, here there are 5 unless --pretrained says otherwise). Every setting at 10 per class with 2
seeds, 20,001 iterations each, for a cluster of GPUs. What two of them share runs once.
"""

from idm_ray.pipeline import Settings, Tell, on_cifar100, search_pipeline

TABLES_AND_FIGURE = ("components", "partition", "pretrain_epochs")


def ablation(given: Settings, tell: Tell, *, smoke: bool) -> Settings:
    """Try what Tables 2 and 3 and Figure 3 of the paper try, and draw it."""
    return on_cifar100(given, tell, searches=TABLES_AND_FIGURE, smoke=smoke)


if __name__ == "__main__":
    search_pipeline(ablation)()
