import hashlib

import pytest

from idm_ray.searches.queue_sequence import decide_sequence, networks_of, shared_queue_key
from idm_ray.workers import QueueWorker, pretrain
from tests.making_runs import plan_of

SMALL = {
    "iterations": 9,
    "train_interval": 2,
    "push_interval": 3,
    "train_steps": 1,
    "batch_train": 16,
    "network": "convnet-1",
}


def served(plan):
    """The bits that the queue serves: of each network of each iteration."""
    pretrained = [pretrain(plan, lesson)[0][0] for lesson in plan.pretraining]
    queue, found = QueueWorker(plan, *pretrained), []
    for iteration in range(plan.config.condense.iterations):
        for snapshot in queue.begin(iteration):
            digest = hashlib.sha256(snapshot.weights.tobytes()).hexdigest()
            found.append((iteration, snapshot.model, snapshot.age, snapshot.accuracy, digest))
        queue.train(iteration)
    queue.close()
    return found


def key_and_bits(**options):
    plan, _ = plan_of(**{**SMALL, **options})
    return shared_queue_key(plan.config), served(plan)


@pytest.fixture(scope="module")
def plain():
    return key_and_bits()


@pytest.fixture(scope="module")
def pretrained():
    return key_and_bits(pretrained=2, pretrain_steps=2, pretrained_classes=3)


@pytest.mark.parametrize(
    "options",
    [
        {"lambda_reg": 0.1},
        {"partition": 1},
        {"lr_img": 1.0, "momentum_img": 0.0, "image_step": "per_class"},
        {"ipc": 3},
        {"batch_real": 4},
        {"start": "noise"},
        {"classes_per_group": 10},
        {"repeats": 2, "eval_epochs": 5, "eval_interval": 2},
        {"cache": "none", "strict": True},
        {"pretrain_steps": 5, "pretrained_classes": "all"},  # of no pretrained networks
        # Three pushes make seven networks at most, of which none leaves.
        {"queue_size": 6},
        {"queue_size": 100},
        {"accuracy_window": 100},
    ],
    ids=str,
)
def test_what_the_queue_does_not_depend_on_leaves_the_key_and_the_bits(plain, options):
    if "queue_size" in options:
        plain = key_and_bits(queue_size=50)
    assert key_and_bits(**options) == plain


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 1},
        {"limit_per_class": 15},
        {"classes": "1,2,3"},
        {"size": 10},
        {"network": "convnet-2"},
        {"iterations": 10},
        {"num_matched_models": 2},
        {"queue_size": 3},
        {"queue_init": 4},
        {"push_interval": 2},
        {"train_interval": 3},
        {"num_trained_models": 1},
        {"train_steps": 2},
        {"batch_train": 17},
        {"lr_net": 0.02},
        {"accuracy_window": "last"},
        {"accuracy_window": 2},
        {"pretrained": 1, "pretrain_steps": 2},
    ],
    ids=str,
)
def test_what_the_queue_depends_on_changes_the_key_and_the_bits(plain, options):
    key, bits = key_and_bits(**options)
    assert key != plain[0]
    assert bits != plain[1]


@pytest.mark.parametrize(
    "options", [{"pretrain_steps": 3}, {"pretrained_classes": 4}, {"pretrained": 3}], ids=str
)
def test_pretraining_changes_the_key_and_the_bits_of_pretrained_networks(pretrained, options):
    settings = {"pretrained": 2, "pretrain_steps": 2, "pretrained_classes": 3, **options}
    key, bits = key_and_bits(**settings)
    assert key != pretrained[0]
    assert bits != pretrained[1]


def test_two_times_five_steps_are_ten():
    # One network, trained in iterations 0 and 1 before anybody looks at it again.
    alone = {"queue_size": 1, "queue_init": 1, "push_interval": 100, "iterations": 2}
    assert key_and_bits(**alone, train_steps=2) != key_and_bits(**alone, train_steps=1)
    first = key_and_bits(**alone | {"iterations": 1}, train_steps=2)
    assert first == key_and_bits(**alone | {"iterations": 1}, train_steps=1)


def test_networks_that_are_never_trained_do_not_depend_on_how_they_would_be():
    fresh = {"queue_size": 0, "lambda_reg": 0.0}
    assert key_and_bits(**fresh) == key_and_bits(**fresh, lr_net=0.5, batch_train=3)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("precision", "bfloat16"),
        ("compile", "on"),
        ("device", "cuda"),
        ("threads", 2),
        ("images_per_pass", 8),
        ("data", "cifar10"),
        ("data_root", "/elsewhere"),
        ("test_fraction", 0.5),
    ],
)
def test_another_arithmetic_or_source_is_another_key(option, value):
    config = plan_of(**SMALL)[0].config
    assert shared_queue_key(config.replace(**{option: value})) != shared_queue_key(config)


@pytest.mark.parametrize("window", ["lifetime", "last", 1, 2, 3, 5])
@pytest.mark.parametrize("members", [0, 2])
def test_meters_count_the_steps_that_the_server_counts(window, members):
    options = {"accuracy_window": window, "pretrained": members, "pretrain_steps": 2}
    plan, _ = plan_of(**SMALL, **options)
    pretrained = [pretrain(plan, lesson)[0][0] for lesson in plan.pretraining]
    queue, kinds = QueueWorker(plan, *pretrained), set()
    for iteration, seen in enumerate(networks_of(plan.config)):
        snapshots = queue.begin(iteration)
        assert [(s.model, s.age) for s in snapshots] == [(model, age) for model, age, _ in seen]
        for model, age, counted in seen:
            first, has_start = counted or (age, False)
            images = 16 * (age - first) + (pretrained[0].images if has_start else 0)
            assert queue._server._models[model].seen == images
            kinds.add(images > 0)
        queue.train(iteration)
    queue.close()
    assert (True in kinds) == (window != 1 or members > 0)


@pytest.mark.parametrize(
    ("options", "decisive"),
    [
        ((), False),
        (("lambda_reg", "partition", "lr_img", "momentum_img", "image_step"), False),
        (("lambda_reg", "queue_size"), True),
        (("train_steps",), True),
        (("lr_net",), True),
        (("seed",), True),
        (("network",), True),
        (("num_matched_models",), True),
        (("iterations",), True),
    ],
    ids=str,
)
def test_some_options_decide_which_networks_a_run_is_matched_on(options, decisive):
    assert decide_sequence(options) is decisive


def test_networks_that_are_trained_on_a_run_s_own_images_are_not_shared():
    shared = {"method": "dsa", "queue_size": 0, "lambda_reg": 0.0}
    one_round = key_and_bits(**shared)
    assert one_round == key_and_bits(**shared | {"method": "dm"})
    plan, _ = plan_of(**{**SMALL, **shared, "outer_rounds": 2})
    assert shared_queue_key(plan.config) is None
