"""What a run does, as frozen values: one dataclass per part, all held by `RunConfig`.

Every field is an option of the command line, a key of the YAML config and a keyword of the Python
API under its own flat name; the text below a field is its help. Values are checked here, each by
itself and against each other; what depends on the data is checked where the data is known.
"""

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from idm_ray.checks import (
    at_least,
    check_types,
    parse_bytes,
    parse_epochs,
    parse_interval,
    parse_iterations,
    positive,
    refuse_unknown,
    wrong,
)
from idm_ray.errors import UserError
from idm_ray.network_names import parse_convnet

AutoInt = int | Literal["auto"]
AutoFloat = float | Literal["auto"]

# Sec. 5.1 of the paper: the optimiser of every network, in the queue and in evaluation.
MOMENTUM_NET = 0.9
WEIGHT_DECAY_NET = 0.0005

# Evaluation: networks and epochs of each by default. What else they mean: algorithm/protocols.py.
PROTOCOLS: Mapping[str, Mapping[str, int]] = {
    "paper": {"repeats": 5, "eval_epochs": 1000},
    "dc": {"repeats": 5, "eval_epochs": 300},
    "strong": {"repeats": 5, "eval_epochs": 2000},
    "quick": {"repeats": 3, "eval_epochs": 200},
}

# Pixels per side: images that are larger fill a machine's memory, a few of them at a time.
MAX_SIZE = 8192


# The names of methods: `methods/NAME.py` has each, with underscores.
METHODS = (
    *("idm", "dm", "dc", "dsa"),
    *("random", "herding", "herding-greedy", "forgetting", "kmeans"),
)

# Beside ConvNets (`network_names`). Those that end in "-bn" have batch norm, and can only be
# evaluated with.
NETWORKS = (
    *("alexnet", "alexnet-bn", "vgg11", "vgg11-bn"),
    *("resnet18", "resnet18-bn", "resnet18-ap", "resnet18-ap-bn"),
)
TORCHVISION = "torchvision/"
"""What the names of torchvision's classifiers begin with; they can only be evaluated with, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Which images, and how they are brought to one size."""

    data: str = "digits"
    """digits, cifar10, cifar100, mnist, fashionmnist, svhn, a folder of class folders, of
    TinyImageNet or of ImageNet's tars, or Parquet files with an image and a label column."""

    data_root: str | None = None
    """Folder of torchvision's files for cifar10 to svhn, downloaded when missing (default:
    torchvision in idm_ray's folder in the user's cache folder)."""

    size: int | None = None
    """Resize the shorter side to this many pixels and crop the centre square."""

    flips: Literal["auto", "on", "off"] = "auto"
    """Whether mirrored images still show their class, so that training may mirror them; auto: not
    those of digits, mnist and svhn."""

    label_column: str | None = None
    """Column of the labels in Parquet files, where several could be it; other data have none."""

    classes: str | None = None
    """Use these classes only: names with commas between them, or a text file with one per line;
    their order is the order of the labels."""

    test_fraction: float = 0.2
    """Share of each class held out for testing, for a source that has no split of its own."""

    val_fraction: float = 0.0
    """Share of each class's training images held out for validation, out of those that
    limit_per_class leaves; nothing trains on them."""

    limit_per_class: int | None = None
    """Use at most this many training images of each class."""

    strict: bool = False
    """Refuse data of which any image cannot be used, instead of leaving it out with a count, and
    classes of fewer images than the start needs, instead of drawing some more than once."""

    cache: Literal["auto", "none"] = "auto"
    """Whether decoded images are kept on disk for the next time."""

    cache_dir: str | None = None
    """Folder of the decoded image cache (default: idm_ray in the user's cache folder)."""

    cache_limit: str | None = None
    """Most that the cache of one data set may take, such as 20GB; the rest is decoded when needed
    (shards only; default: until the disk is nine tenths full)."""

    def __post_init__(self) -> None:
        """Check each value."""
        check_types(self)
        if self.size is not None and not 4 <= self.size <= MAX_SIZE:
            raise wrong("size", self.size, f"from 4 to {MAX_SIZE}")
        at_least("limit_per_class", self.limit_per_class, 1)
        if not 0 < self.test_fraction < 1:
            raise wrong("test_fraction", self.test_fraction, "between 0 and 1")
        if not 0 <= self.val_fraction < 1:
            raise wrong("val_fraction", self.val_fraction, "at least 0 and below 1")
        if self.cache_limit is not None:
            parse_bytes("cache_limit", self.cache_limit)


@dataclass(frozen=True, kw_only=True, slots=True)
class CondenseConfig:
    """The condensation itself (Sec. 4.1, 4.3 and 5.1)."""

    method: str = "idm"
    """idm; dm: plain distribution matching on fresh random networks; dc, dsa: gradient matching
    without and with augmentation; or real images that are chosen: random, herding, herding-greedy,
    forgetting, kmeans."""

    ipc: int = 1
    """Synthetic images per class."""

    iterations: int = 1000
    """Iterations (M): updates of the synthetic images, of dc and dsa outer_rounds in each; 0 for
    methods that choose real images."""

    seed: int = 0
    """Seed of everything that is drawn at random."""

    network: str = "auto"
    """Embedding network: convnet-DEPTH, alexnet, vgg11, resnet18 or resnet18-ap; auto: a ConvNet of
    the depth that fits the image size. A ConvNet's name goes on with what differs from the paper's,
    as in convnet-3-w64-max (docs/settings.md lists it)."""

    batch_real: int = 256
    """Real images of each class matched per iteration; the whole class if it has no more."""

    lambda_reg: float = 0.5
    """Weight of the class-aware regularization, times accuracy in percent (Eq. 5)."""

    partition: int = 2
    """Tiles per side in partitioning and expansion (l); 1 switches it off."""

    start: Literal["tiles", "whole", "noise"] = "tiles"
    """First synthetic images: a different real image in every tile, one in each image, or noise."""

    image_step: Literal["joint", "per_class"] = "joint"
    """One SGD step per iteration, or the published one: all images are stepped once per class."""

    lr_img: float = 0.2
    """Learning rate of the synthetic images, in normalised pixel space."""

    momentum_img: float = 0.5
    """Momentum of the synthetic images."""

    num_matched_models: int = 1
    """Networks matched per iteration; their losses are averaged."""

    outer_rounds: AutoInt = "auto"
    """Steps of the images in an iteration of dc or dsa; auto: as published for the nearest ipc."""

    inner_epochs: AutoInt = "auto"
    """Epochs for which an iteration's network is trained on the synthetic images of all classes
    between two of those steps; auto: as published for the nearest ipc."""

    classes_per_group: AutoInt = "auto"
    """Classes that share one forward pass; groups are what actors own."""

    def __post_init__(self) -> None:
        """Check each value."""
        check_types(self)
        refuse_unknown([self.method], METHODS, what="method")
        for name in ("ipc", "batch_real", "partition", "num_matched_models"):
            at_least(name, getattr(self, name), 1)
        at_least("iterations", self.iterations, 0)
        at_least("seed", self.seed, 0)
        at_least("lambda_reg", self.lambda_reg, 0)
        for name in ("classes_per_group", "outer_rounds", "inner_epochs"):
            at_least(name, getattr(self, name), 1)
        positive("lr_img", self.lr_img)
        if not 0 <= self.momentum_img < 1:
            raise wrong("momentum_img", self.momentum_img, "at least 0 and below 1")
        _check_network(self.network)


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueConfig:
    """The model queue (Sec. 4.2)."""

    queue_size: int = 100
    """Largest number of networks (N_max); 0 matches a fresh random network every iteration."""

    queue_init: int = 3
    """Random networks at the start (N)."""

    push_interval: int = 30
    """A fresh network is pushed every so many iterations, the first included."""

    train_interval: int = 1
    """Networks of the queue are trained every so many iterations, the first included."""

    num_trained_models: int = 2
    """Different networks trained each time."""

    train_steps: int = 10
    """SGD steps per trained network and time (K)."""

    batch_train: int = 256
    """Images in a training batch, of the queue and of evaluation."""

    lr_net: float = 0.01
    """Learning rate of networks, in the queue and in evaluation."""

    accuracy_window: int | Literal["lifetime", "last"] = "lifetime"
    """Accuracy of a network (Eq. 4): over its life, its last training, or since a reset every N."""

    pretrained: int = 0
    """Networks trained before condensing, of which those of the queue are copies (supplement 3);
    0: they are fresh random ones."""

    pretrain_steps: int | str = "epoch"
    """SGD steps of each pretrained network; epoch, or such as "10 epochs": as many as make so many
    passes over the data."""

    pretrained_classes: int | Literal["half", "all"] = "half"
    """Classes that each copy of a pretrained network is bound to, drawn at random: in the queue it
    is trained on their real images only."""

    def __post_init__(self) -> None:
        """Check each value."""
        check_types(self)
        for name in ("queue_size", "pretrained"):
            at_least(name, getattr(self, name), 0)
        for name in (
            "queue_init",
            "push_interval",
            "train_interval",
            "num_trained_models",
            "train_steps",
            "batch_train",
            "accuracy_window",
            "pretrain_steps",
        ):
            at_least(name, getattr(self, name), 1)
        if isinstance(self.pretrain_steps, str):
            parse_epochs("pretrain_steps", self.pretrain_steps)
        at_least("pretrained_classes", self.pretrained_classes, 2)
        if self.queue_size and self.queue_init > self.queue_size:
            raise wrong("queue_init", self.queue_init, f"at most queue_size, {self.queue_size}")
        positive("lr_net", self.lr_net)

    def pretraining_steps(self, steps_per_epoch: int) -> int:
        """SGD steps of each pretrained network, however they are told."""
        if isinstance(self.pretrain_steps, int):
            return self.pretrain_steps
        return parse_epochs("pretrain_steps", self.pretrain_steps) * steps_per_epoch


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """How good the result is (Sec. 5.1): fresh networks trained on it, tested on others."""

    protocol: str = "paper"
    """How they are trained. paper: 5 networks, 1000 epochs, augmentation; dc: 300 epochs without
    augmentation, as the coresets of Table 1; strong: 2000 epochs, cosine, CutMix and augmentation;
    quick: as paper, 3 networks and 200 epochs."""

    repeats: int = 5
    """Fresh networks trained on the result; 0 evaluates nothing. The protocol has a default."""

    eval_epochs: int = 1000
    """Epochs of each of them. The protocol has a default."""

    eval_interval: int = 0
    """Evaluate a copy every so many iterations as well; 0 only at the end."""

    eval_at: int | str | None = None
    """Evaluate a copy after these iterations as well, such as 10,100."""

    eval_split: Literal["test", "validation"] = "test"
    """Images that all networks are tested on; validation: those that val_fraction holds out."""

    select: Literal["last", "validation"] = "last"
    """last: the result is the last iterate; validation: beside it, the best of the copies and the
    last one on the images that val_fraction holds out is kept and tested, too."""

    baselines: Literal["on", "off"] = "on"
    """Whether networks are trained on the start and on random real images, too, to compare."""

    whole_epochs: int = 0
    """Epochs of one network trained on all real images, as a reference; 0 leaves it out."""

    def __post_init__(self) -> None:
        """Check each value."""
        check_types(self)
        refuse_unknown([self.protocol], PROTOCOLS, what="protocol")
        for name in ("repeats", "eval_interval", "whole_epochs"):
            at_least(name, getattr(self, name), 0)
        at_least("eval_epochs", self.eval_epochs, 1)
        if self.eval_interval and not self.repeats:
            raise wrong("eval_interval", self.eval_interval, "0 when repeats is 0")
        if self.eval_at is not None:
            parse_iterations("eval_at", self.eval_at)
            if not self.repeats:
                raise wrong("eval_at", self.eval_at, "unset when repeats is 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineConfig:
    """Where and how it is computed; precision, compile, passes and threads touch the numbers."""

    local: bool = False
    """Run in this process, without Ray; same numbers."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU that Ray assigned, or the CPU."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the networks; auto: bfloat16 where the hardware multiplies it natively."""

    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the networks: C++ on CPUs, torch's compiler on GPUs; auto: where it can and pays."""

    images_per_pass: AutoInt = "auto"
    """Real images that go through a network at once; gradients of larger batches are summed in
    parts. A group's tiles go through together; auto cuts groups so that they are no more, but for
    one class's."""

    threads: AutoInt = "auto"
    """CPU threads of each process that computes; the last bits of the numbers depend on it."""

    actors: AutoInt = "auto"
    """Ray actors that share the groups of classes."""

    cpus_per_actor: AutoFloat = "auto"
    """CPUs that Ray reserves for each actor; auto: at most 1, so that all fit."""

    gpus_per_actor: AutoFloat = "auto"
    """GPUs that Ray reserves for each actor, for the queue and for each evaluation."""

    placement: Literal["pack", "spread"] = "pack"
    """pack: actors sit on as few nodes as can be, whose cache they share; spread: on as many."""

    wait_s: float = 60.0
    """How long to wait for resources of the cluster before giving up."""

    checkpoint_interval: int | str = "300s"
    """How often a checkpoint is written: 300s, every so many seconds, or 50, iterations."""

    max_failures: int = 10
    """Processes that may be lost in a run; with one more it ends."""

    hang_timeout_s: float = 1800.0
    """A process that finishes nothing for so long counts as lost; 0: never."""

    def __post_init__(self) -> None:
        """Check each value."""
        check_types(self)
        for name in ("images_per_pass", "threads", "actors"):
            at_least(name, getattr(self, name), 1)
        for name in ("cpus_per_actor", "gpus_per_actor", "wait_s", "max_failures"):
            at_least(name, getattr(self, name), 0)
        at_least("hang_timeout_s", self.hang_timeout_s, 0)
        parse_interval("checkpoint_interval", self.checkpoint_interval)
        if self.gpus_per_actor != "auto" and self.gpus_per_actor > 1 and self.gpus_per_actor % 1:
            raise wrong("gpus_per_actor", self.gpus_per_actor, "a part of 1, or a whole number")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything that a run needs to know; the recipe is resolved, `auto` of the machine is not."""

    recipe: str = "auto"
    data: DataConfig = field(default_factory=DataConfig)
    condense: CondenseConfig = field(default_factory=CondenseConfig)
    queue: QueueConfig = field(default_factory=QueueConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)

    def __post_init__(self) -> None:
        """Check the parts against each other."""
        if not isinstance(self.recipe, str):
            raise wrong("recipe", self.recipe, "text")
        if self.condense.lambda_reg and not self.queue.queue_size:
            raise UserError(
                f"lambda_reg {self.condense.lambda_reg:g} needs a model queue: fresh networks have "
                "no accuracy, so it would silently do nothing; set lambda_reg 0 or queue_size >= 1"
            )
        if self.evaluation.eval_split == "validation" and not self.data.val_fraction:
            raise UserError(
                "eval_split validation needs images held out: expected val_fraction above 0, got "
                f"{self.data.val_fraction:g}; set val_fraction, such as 0.1, or eval_split test"
            )
        if self.evaluation.select == "validation":
            self._check_selecting()

    def _check_selecting(self) -> None:
        """Refuse to select an iterate where there is nothing to select by, or to select from."""
        evaluation = self.evaluation
        if evaluation.eval_split == "validation":
            raise UserError(
                "select validation needs other images to test the selected iterate on: expected "
                "eval_split test, got validation; leave out eval_split, or set select last"
            )
        if not self.data.val_fraction:
            raise UserError(
                "select validation needs images held out: expected val_fraction above 0, got "
                f"{self.data.val_fraction:g}; set val_fraction, such as 0.1, or select last"
            )
        if not evaluation.eval_interval and evaluation.eval_at is None:
            raise UserError(
                "select validation needs iterates to select from: expected eval_interval or "
                "eval_at, got neither; set eval_interval, such as 100, or select last"
            )

    def flat(self) -> dict[str, Any]:
        """The options as one flat mapping, in the order of declaration."""
        parts = (getattr(self, name) for name in PARTS)
        values = {f.name: getattr(p, f.name) for p in parts for f in dataclasses.fields(p)}
        return {"recipe": self.recipe, **values}

    @classmethod
    def from_flat(cls, options: Mapping[str, Any]) -> "RunConfig":
        """Build a config from flat options; what is missing keeps its default.

        Raises:
            UserError: an unknown option (the nearest known one is named), or a wrong value.
        """
        refuse_unknown(options, option_names())
        parts = {
            name: part(**{k: v for k, v in options.items() if k in _names(part)})
            for name, part in PARTS.items()
        }
        return cls(recipe=options.get("recipe", "auto"), **parts)

    def replace(self, **options: Any) -> "RunConfig":
        """A copy with some flat options changed."""
        return RunConfig.from_flat({**self.flat(), **options})


PARTS: dict[str, type] = {
    "data": DataConfig,
    "condense": CondenseConfig,
    "queue": QueueConfig,
    "evaluation": EvalConfig,
    "machine": MachineConfig,
}


def _check_network(name: str) -> None:
    """Torchvision's names are known where torchvision is imported."""
    is_known = name == "auto" or name in NETWORKS or name.startswith(TORCHVISION)
    if is_known or parse_convnet(name) is not None:
        return
    near = difflib.get_close_matches(name.lower(), ("convnet-3", *NETWORKS), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    names = f"auto, convnet-DEPTH such as convnet-3, {', '.join(NETWORKS)} or {TORCHVISION}NAME"
    raise UserError(f"network must be {names}, got {name!r}{hint}")


def option_names() -> tuple[str, ...]:
    """The flat names of all options, in the order of declaration."""
    return ("recipe", *(name for part in PARTS.values() for name in _names(part)))


def option_types() -> dict[str, Any]:
    """The annotation of each option, by its flat name."""
    hints: dict[str, Any] = {"recipe": str}
    for part in PARTS.values():
        hints |= typing.get_type_hints(part)
    return hints


def _names(part: type) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(part))
