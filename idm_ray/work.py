"""What a run has to do, counted from its config; nothing is run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from idm_ray.algorithm.flops import ImageFlops, count_flops
from idm_ray.algorithm.model_start import pretraining_steps
from idm_ray.config import QueueConfig, RunConfig
from idm_ray.methods.method import Matching
from idm_ray.plan import EvaluationJob, Plan, Subject

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Lessons:
    """Training of one network in evaluation: so many epochs over so many images."""

    epochs: int
    images: int
    steps: int
    """In an epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a run has to do, counted.

    Attributes:
        iterations: of condensing.
        classes: of the data.
        matched: images of one class that are embedded in an iteration: real ones, tiles.
        rounds: of an iteration, between which networks are trained on all synthetic images.
        second_order: whether matching takes gradients for weights, and their gradients.
        train_steps: of networks that are matched, in the whole run.
        batch_train: images of each of them.
        looked_at: real images that are embedded to choose among them, in all.
        pretrained: networks trained before condensing.
        pretrain_steps: of each of them.
        batch_pretrain: images of each of them.
        lessons: training of each network of evaluation, by its subject.
        subjects: of all networks to evaluate, in their order.
        test_images: that each of them is tested on, in the mean.
        flops: per image.
        image_bytes: of a decoded image.
        class_bytes: state of a class: synthetic images and their velocity.
        model_bytes: state of a network of the queue: weights and their velocity.
        models: most networks that the queue ever holds.
        snapshot_bytes: weights of the networks that are matched in an iteration.
        cache_bytes: decoded images on disk.
    """

    iterations: int
    classes: int
    matched: tuple[int, int]
    rounds: int = 1
    second_order: bool = False
    train_steps: int
    batch_train: int
    looked_at: int = 0
    pretrained: int = 0
    pretrain_steps: int = 0
    batch_pretrain: int = 0
    lessons: Mapping[Subject, Lessons]
    subjects: tuple[Subject, ...]
    test_images: int
    flops: ImageFlops
    image_bytes: int
    class_bytes: int
    model_bytes: int
    models: int
    snapshot_bytes: int
    cache_bytes: int

    @property
    def match_flops(self) -> float:
        """Of one class in one iteration."""
        real, tiles = self.matched
        if self.second_order:
            return real * self.flops.train + tiles * self.flops.second_order
        return real * self.flops.forward + tiles * self.flops.match

    @property
    def step_flops(self) -> float:
        """Of one training step of a network that is matched."""
        return self.batch_train * self.flops.train

    @property
    def condense_flops(self) -> float:
        """Of condensing or choosing, in all."""
        matching = self.iterations * self.classes * self.match_flops
        looking = self.looked_at * self.flops.forward
        return matching + self.train_steps * self.step_flops + looking

    @property
    def pretrain_flops(self) -> float:
        """Of training networks before condensing, if none is kept from an earlier run."""
        images = self.pretrained * self.pretrain_steps * self.batch_pretrain
        return images * self.flops.train

    @property
    def evaluate_flops(self) -> float:
        """Of evaluation, in all."""
        trained = sum(self.lessons[s].epochs * self.lessons[s].images for s in self.subjects)
        tested = len(self.subjects) * self.test_images
        return trained * self.flops.train + tested * self.flops.forward

    @property
    def condense_read_bytes(self) -> int:
        """Decoded images that condensing and pretraining take from the cache."""
        real = self.iterations * self.classes * self.matched[0] + self.looked_at
        # Between rounds, networks are trained on synthetic images.
        trained = self.train_steps * self.batch_train if self.rounds == 1 else 0
        pretrained = self.pretrained * self.pretrain_steps * self.batch_pretrain
        return (real + trained + pretrained) * self.image_bytes

    @property
    def evaluate_read_bytes(self) -> int:
        """Decoded images that evaluation takes from the cache."""
        whole = sum(
            self.lessons[s].epochs * self.lessons[s].images for s in self.subjects if s == "whole"
        )
        return (whole + len(self.subjects) * self.test_images) * self.image_bytes

    @property
    def checkpoint_bytes(self) -> int:
        """One full copy of what decides the future: synthetic images, networks, velocities."""
        return self.classes * self.class_bytes + self.models * self.model_bytes


def count_work(plan: Plan, jobs: Iterable[EvaluationJob]) -> Work:
    """Count what a settled config asks for.

    Args:
        plan: of the run.
        jobs: all networks to evaluate, during the run and at its end.
    """
    config, info, network = plan.config, plan.info, plan.build_network()
    condense, queue, jobs = config.condense, config.queue, tuple(jobs)
    image_numbers = info.image_shape[0] * info.image_shape[1] * info.image_shape[2]
    tiles = condense.ipc * condense.partition**2
    how = plan.method.how
    embedded = condense.num_matched_models * plan.rounds
    steps, batch = _training(plan)
    real = min(condense.batch_real, max(info.train_counts))
    num_train, num_val = sum(info.train_counts), sum(info.val_counts)
    num_test = sum(info.test_counts)
    models = queue_length(queue, condense.iterations - 1)
    weight_bytes = sum(p.numel() for p in network.parameters()) * FLOAT_BYTES
    return Work(
        iterations=condense.iterations,
        classes=info.num_classes,
        matched=(real * embedded, tiles * embedded),
        rounds=plan.rounds,
        second_order=isinstance(how, Matching) and how.second_order,
        train_steps=steps,
        batch_train=batch,
        looked_at=num_train * sum(len(lesson.steps) for lesson in plan.pretraining) * plan.selects,
        pretrained=queue.pretrained,
        pretrain_steps=pretraining_steps(queue, num_train),
        batch_pretrain=queue.batch_train,
        lessons=_lessons(config, info.num_classes, num_train),
        subjects=tuple(job.subject for job in jobs),
        test_images=_test_images(config, jobs, num_val=num_val, num_test=num_test),
        flops=count_flops(network, info.image_shape),
        image_bytes=image_numbers,
        class_bytes=2 * condense.ipc * image_numbers * FLOAT_BYTES,
        model_bytes=2 * weight_bytes,
        models=models,
        snapshot_bytes=condense.num_matched_models * weight_bytes,
        cache_bytes=(num_train + num_val + num_test) * image_numbers,
    )


def _test_images(
    config: RunConfig, jobs: Sequence[EvaluationJob], *, num_val: int, num_test: int
) -> int:
    """How many images a network is tested on, in the mean over all of them."""
    reported = num_val if config.evaluation.eval_split == "validation" else num_test
    selecting = sum(job.selects for job in jobs)
    tested = selecting * num_val + (len(jobs) - selecting) * reported
    return round(tested / len(jobs)) if jobs else reported


def _training(plan: Plan) -> tuple[int, int]:
    """Steps of networks that are matched, in the whole run, and images of each."""
    condense, queue = plan.config.condense, plan.config.queue
    if plan.rounds == 1:
        return count_trained(queue, condense.iterations) * queue.train_steps, queue.batch_train
    images = plan.info.num_classes * condense.ipc
    steps = -(-images // queue.batch_train)
    networks = condense.iterations * condense.num_matched_models
    epochs = networks * (plan.rounds - 1) * int(condense.inner_epochs)
    return epochs * steps, -(-images // steps)


def queue_length(queue: QueueConfig, iteration: int) -> int:
    """Networks in the queue once it has pushed in an iteration; 0 where all are fresh."""
    if queue.queue_size == 0:
        return 0
    return min(queue.queue_size, queue.queue_init + iteration // queue.push_interval + 1)


def count_trained(queue: QueueConfig, iterations: int) -> int:
    """How many times a network of the queue is trained in a run."""
    lengths = (queue_length(queue, i) for i in range(0, iterations, queue.train_interval))
    return sum(min(queue.num_trained_models, length) for length in lengths)


def _lessons(config: RunConfig, num_classes: int, num_train: int) -> dict[Subject, Lessons]:
    condense, evaluation = config.condense, config.evaluation
    random = num_classes * condense.ipc
    tiled = random * condense.partition**2
    of: dict[Subject, tuple[int, int]] = {
        "condensed": (evaluation.eval_epochs, tiled),
        "start": (evaluation.eval_epochs, tiled),
        "random": (evaluation.eval_epochs, random),
        "whole": (evaluation.whole_epochs, num_train),
    }
    batch = config.queue.batch_train
    return {
        subject: Lessons(epochs=epochs, images=images, steps=-(-images // batch))
        for subject, (epochs, images) in of.items()
    }
