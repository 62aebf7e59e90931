"""One network of evaluation: trained on some images, tested on real ones, as both runners do it."""

from collections.abc import Callable

import torch
from torch import Tensor

from idm_ray.algorithm.evaluate import TrainingImages, accuracy, fit
from idm_ray.algorithm.expansion import expand
from idm_ray.algorithm.protocols import Protocol, named_protocol, whole_data
from idm_ray.algorithm.randomness import generator
from idm_ray.building import fresh_network
from idm_ray.plan import EvaluationJob, Plan
from idm_ray.real_images import RealImages
from idm_ray.workers import Images, prepare_process


def evaluate(plan: Plan, job: EvaluationJob, condensed: Images | None = None) -> float:
    """Train one fresh network and test it.

    Args:
        plan: of the run.
        job: what to train on, and which repeat.
        condensed: (N, C, H, W) for the subject "condensed".

    Returns:
        Accuracy on the images of the job's split, a fraction.
    """
    prepare_process(plan.numerics)
    with RealImages(plan) as real:
        images = training_images(plan, job, real, condensed)
        return accuracy(train_network(plan, job, images), real.test_batches(split=job.split))


def train_network(
    plan: Plan, job: EvaluationJob, images: TrainingImages
) -> Callable[[Tensor], Tensor]:
    """Train one fresh network; returns it as a function from normalised images to logits."""
    # Repeats of all subjects start from the same networks, so that their differences are paired.
    key = (plan.config.condense.seed, "evaluate", job.repeat)
    network = fresh_network(
        plan.config.condense.network,
        plan.info.image_shape,
        plan.info.num_classes,
        generator(*key, "init"),
    ).to(plan.numerics.device)
    return fit(network, images, _protocol(plan, job), plan.numerics, key)


def training_images(
    plan: Plan, job: EvaluationJob, real: RealImages, condensed: Images | None = None
) -> TrainingImages:
    """What a job trains its network on; `condensed` as for `evaluate`."""
    if job.subject == "whole":
        return real.whole()
    labels = range(plan.info.num_classes)
    partition = plan.config.condense.partition
    if job.subject == "random":
        stored, partition = torch.cat([real.random(label) for label in labels]), 1
    elif job.subject == "start":
        stored = torch.cat([real.start(label) for label in labels])
    else:
        assert condensed is not None, "the subject is the condensed images"
        stored = torch.from_numpy(condensed.copy()).to(plan.numerics.device)
    images = expand(stored, partition)
    per_class = len(images) // plan.info.num_classes
    targets = torch.arange(plan.info.num_classes, device=images.device)
    targets = targets.repeat_interleave(per_class)
    return TrainingImages(count=len(images), take=lambda rows: (images[rows], targets[rows]))


def _protocol(plan: Plan, job: EvaluationJob) -> Protocol:
    evaluation, queue = plan.config.evaluation, plan.config.queue
    protocol = named_protocol(
        evaluation.protocol,
        evaluation.eval_epochs,
        lr_net=queue.lr_net,
        batch_train=queue.batch_train,
        operations=plan.operations,
    )
    return whole_data(protocol, evaluation.whole_epochs) if job.subject == "whole" else protocol
