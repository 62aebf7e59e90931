import pytest

from idm_ray.config import METHODS, RunConfig
from idm_ray.data.known import KNOWN
from idm_ray.errors import UserError
from idm_ray.methods.dm import UNUSED as UNUSED_BY_DM
from idm_ray.recipes import (
    PUBLISHED,
    Facts,
    choose_recipe,
    recipe_names,
    resolve_options,
    split_options,
)

# The authors' published commands.
#                                                    steps per  real
#           images                  queue    push     trained   batch per
# data      per class  network      size     interval network   class     lambda  partition
TABLE = """
cifar10          1     convnet-3    100       5        10        5000      0.5       2
cifar10          10    convnet-3    100      30        10         256      0.5       2
cifar10          50    convnet-3    100      30        10         256      0.1       2
cifar100         1     convnet-3    100       5        10         500      0.5       2
cifar100         10    convnet-3    100      30        50         256      0.1       2
cifar100         50    convnet-3    100      30        10         256      0.1       2
tinyimagenet     1     convnet-3    100      30        10         256      0.5       2
tinyimagenet     10    convnet-3    100      30        10         256      0.5       2
tinyimagenet     50    convnet-3    100      30        50         256      0.8       2
imagenet_subset  1     convnet-6     50      50        10         128      3         2
imagenet_subset  10    convnet-6     50      50        10         128      3         2
imagenet_subset  50    convnet-6    100      50        10         128      3         1
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]

# What all of them share.
COMMON = {
    "iterations": 20_001,
    "lr_img": 0.2,
    "momentum_img": 0.5,
    "start": "tiles",
    "image_step": "per_class",
    "queue_init": 3,
    "num_matched_models": 1,
    "num_trained_models": 2,
    "train_interval": 1,
    "batch_train": 256,
    "lr_net": 0.01,
    "accuracy_window": "lifetime",
    "eval_epochs": 1000,
    "repeats": 5,
}
# Published on images in [0, 1]; ours are divided by a deviation of about 0.225.
IMAGENET = {"lr_img": pytest.approx(0.2 / 0.225**2, rel=0.02), "batch_train": 128}

# The paper's text, where it differs from the commands.
#                  per            real            push     train    trained  steps per
# data             class  lambda  batch partition interval interval networks network
TEXT = """
cifar10            1       0.5     256     2       30       30       1       10
cifar10            10      0.5     256     2       30       30       1       10
cifar10            50      0.1     256     2       30       30       1       10
cifar100           1       0.5     256     2       30       30       1       10
cifar100           10      0.5     256     2       30       30       1       10
cifar100           50      0.1     256     2       30       30       1       10
tinyimagenet       1       0.5     256     2       30       1        1       10
tinyimagenet       10      0.5     256     2       30       1        1       10
tinyimagenet       50      0.1     256     2       30       1        1       50
imagenet_subset    1       0.5     128     2       50       1        1       10
imagenet_subset    10      0.5     128     2       50       1        1       10
imagenet_subset    50      0.1     128     2       50       1        1       10
"""
TEXT_ROWS = [line.split() for line in TEXT.strip().splitlines()]


def facts(known_as=None, *, size=32, counts=(500,) * 10):
    return Facts(known_as=known_as, image_shape=(3, size, size), train_counts=counts)


def resolved(known_as=None, **given):
    """All options of a run, and what is said beside them."""
    used, unused = split_options(given)
    options, recipe = resolve_options(used, facts(known_as))
    return RunConfig.from_flat(options).flat(), recipe, unused


@pytest.mark.parametrize(
    ("data", "ipc", "network", "queue", "push", "steps", "batch", "weight", "partition"),
    ROWS,
    ids=[f"{row[0]}-{row[1]}" for row in ROWS],
)
def test_a_known_data_set_gets_its_published_settings(
    data, ipc, network, queue, push, steps, batch, weight, partition
):
    flat, recipe, _ = resolved(data, ipc=int(ipc))
    expected = COMMON | (IMAGENET if data == "imagenet_subset" else {})
    expected |= {
        "method": "idm",
        "network": network,
        "queue_size": int(queue),
        "push_interval": int(push),
        "train_steps": int(steps),
        "batch_real": int(batch),
        "lambda_reg": float(weight),
        "partition": int(partition),
    }
    assert {name: flat[name] for name in expected} == expected
    assert recipe.name == flat["recipe"] == data
    assert recipe.origin.startswith(f"published settings for {ipc} per class")


@pytest.mark.parametrize(
    ("data", "ipc", "weight", "batch", "partition", "push", "interval", "trained", "steps"),
    TEXT_ROWS,
    ids=[f"{row[0]}-{row[1]}" for row in TEXT_ROWS],
)
def test_the_paper_s_text_can_be_asked_for(
    data, ipc, weight, batch, partition, push, interval, trained, steps
):
    flat, recipe, _ = resolved(recipe=f"{data}-text", ipc=int(ipc))
    expected = {
        "lambda_reg": float(weight),
        "batch_real": int(batch),
        "partition": int(partition),
        "push_interval": int(push),
        "train_interval": int(interval),
        "num_trained_models": int(trained),
        "train_steps": int(steps),
        "image_step": "joint",
        "iterations": 20_001,
    }
    assert {name: flat[name] for name in expected} == expected
    assert recipe.origin.startswith(f"the paper's text for {ipc} per class")


def test_no_row_of_the_published_table_is_missing():
    assert [(row[0], int(row[1])) for row in ROWS] == [
        (name, ipc) for name, rows in PUBLISHED.items() for ipc in rows
    ]
    assert set(PUBLISHED) < set(KNOWN)


@pytest.mark.parametrize(
    ("recipe", "ipcs"),
    [("imagenet_subset", [50]), ("imagenet_subset-text", [1, 10, 50])],
)
def test_imagenet_alone_starts_from_pretrained_networks(recipe, ipcs):
    found = {
        (name, ipc)
        for name in recipe_names()
        for ipc in (1, 10, 50)
        if resolved(recipe=name, ipc=ipc)[0]["pretrained"]
    }
    assert {ipc for name, ipc in found if name == recipe} == set(ipcs)
    assert {name for name, _ in found} == {"imagenet_subset", "imagenet_subset-text"}
    flat = resolved(recipe=recipe, ipc=50)[0]
    assert 3 <= flat["pretrained"] <= 10
    assert (flat["pretrain_steps"], flat["pretrained_classes"]) == ("epoch", "half")


def test_dm_starts_from_random_networks_everywhere():
    flat, _, unused = resolved("imagenet_subset", method="dm", ipc=50, pretrained=3)
    assert (flat["pretrained"], list(unused)) == (0, ["pretrained"])


@pytest.mark.parametrize(
    ("ipc", "nearest"), [(2, 1), (5, 1), (6, 10), (20, 10), (30, 10), (31, 50), (200, 50)]
)
def test_other_numbers_of_images_get_the_nearest_row_and_are_told_so(ipc, nearest):
    flat, recipe, _ = resolved("cifar100", ipc=ipc)
    row = resolved("cifar100", ipc=nearest)[0]
    assert flat == row | {"ipc": ipc}
    assert recipe.origin == f"published settings for {nearest} per class, the nearest to {ipc}"


def test_the_digits_have_a_recipe_of_their_own():
    flat, recipe, _ = resolved("digits")
    assert recipe.name == "digits"
    assert (flat["network"], flat["partition"], flat["iterations"]) == ("convnet-2", 1, 100)


@pytest.mark.parametrize("known_as", [None, "mnist", "svhn"])
def test_data_without_a_recipe_get_defaults(known_as):
    assert resolved(known_as)[1].name == "default"


def test_a_recipe_can_be_named_for_any_data():
    flat, recipe, _ = resolved("digits", recipe="cifar10", ipc=10)
    assert (recipe.name, flat["push_interval"], flat["queue_size"]) == ("cifar10", 30, 100)


def test_the_defaults_go_by_image_size_and_counts():
    def default(**of):
        return choose_recipe("default", "idm", of.pop("ipc", 1), facts(**of))

    small, large = default(size=64).options, default(size=65).options
    assert (small["iterations"], small["batch_real"], small["batch_train"]) == (1000, 256, 256)
    assert (large["iterations"], large["batch_real"], large["batch_train"]) == (500, 128, 128)
    assert default(counts=(3, 40, 7)).options["batch_real"] == 40
    assert [default(size=size).options["partition"] for size in (7, 8)] == [1, 2]
    assert [default(ipc=ipc).options["lambda_reg"] for ipc in (1, 49, 50)] == [0.5, 0.5, 0.1]
    assert [default(ipc=ipc).options["push_interval"] for ipc in (1, 10)] == [5, 30]
    assert (
        default(size=28, counts=(3, 40)).origin
        == "defaults for 28-pixel images and 3 or more images per class"
    )


DM = {
    "lr_img": 1.0,
    "momentum_img": 0.5,
    "start": "whole",
    "image_step": "joint",
    "partition": 1,
    "queue_size": 0,
    "lambda_reg": 0.0,
    "batch_real": 256,
    "iterations": 20_001,
}


@pytest.mark.parametrize("ipc", [1, 10, 50])
@pytest.mark.parametrize("data", ["cifar10", "cifar100", "tinyimagenet"])
def test_dm_has_settings_of_its_own_wherever_idm_differs(data, ipc):
    flat, recipe, unused = resolved(data, method="dm", ipc=ipc)
    assert {name: flat[name] for name in DM} == DM
    assert (recipe.name, list(unused)) == (data, [])
    assert recipe.origin.startswith("DM's own settings for the images, the rest from: ")
    assert flat["network"] == "convnet-3"


def test_dm_keeps_a_smaller_batch():
    assert resolved("imagenet_subset", method="dm")[0]["batch_real"] == 128
    options, _ = resolve_options({"method": "dm"}, facts(counts=(3, 40)))
    assert options["batch_real"] == 40


def test_options_that_dm_does_not_use_are_left_out_and_named():
    given = {"partition": 3, "ipc": 2, "train_steps": 7, "lr_img": 0.5, "queue_size": 9}
    flat, _, unused = resolved("cifar10", method="dm", **given)
    assert unused == ["partition", "train_steps", "queue_size"]
    assert set(unused) < set(UNUSED_BY_DM)
    assert (flat["partition"], flat["queue_size"], flat["lr_img"]) == (1, 0, 0.5)


def test_idm_uses_every_option():
    every = {name: value for name, value in RunConfig().flat().items() if name != "recipe"}
    assert list(resolved("cifar10", **every)[2]) == []


def test_what_the_user_gives_wins_over_the_recipe():
    given = {"iterations": 7, "lambda_reg": 0.25, "partition": 3, "start": "noise", "repeats": 1}
    flat, _, _ = resolved("cifar10", **given)
    assert {name: flat[name] for name in given} == given
    assert flat["batch_real"] == 5000


@pytest.mark.parametrize(
    ("written", "meant"),
    [("cifr10", "cifar10"), ("cifar-100", "cifar100"), ("imagenet-subset", "imagenet_subset")],
)
def test_an_unknown_recipe_is_refused_with_the_nearest_known_one(written, meant):
    with pytest.raises(UserError) as raised:
        resolved(recipe=written)
    assert str(raised.value) == f"unknown recipe {written!r}; did you mean {meant!r}?"


def test_a_recipe_like_no_other_is_refused_with_all_that_are_known():
    with pytest.raises(UserError, match=r"known are: digits, cifar10, .*default$"):
        resolved(recipe="?")


def test_unknown_options_are_refused():
    with pytest.raises(UserError, match="unknown option 'lamda_reg'; did you mean 'lambda_reg'"):
        resolved(lamda_reg=1.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_gives_a_valid_run(name, method):
    for ipc in (1, 10, 50):
        for size in (8, 32, 224):
            recipe = choose_recipe(name, method, ipc, facts(size=size))
            config = RunConfig.from_flat({"method": method, "ipc": ipc, **recipe.options})
            assert config.condense.ipc == ipc
            assert recipe.name == name
            assert "\n" not in recipe.origin
