import dataclasses

import pytest

from idm_ray.checks import Interval, parse_interval, parse_iterations
from idm_ray.config import (
    PARTS,
    CondenseConfig,
    DataConfig,
    EvalConfig,
    MachineConfig,
    QueueConfig,
    RunConfig,
    option_names,
    refuse_unknown,
)
from idm_ray.errors import UserError

NAMES = """
recipe
data data_root size flips label_column classes test_fraction val_fraction limit_per_class
strict cache cache_dir cache_limit
method ipc iterations seed network batch_real lambda_reg partition start image_step lr_img
momentum_img num_matched_models outer_rounds inner_epochs classes_per_group
queue_size queue_init push_interval train_interval num_trained_models train_steps batch_train
lr_net accuracy_window pretrained pretrain_steps pretrained_classes
protocol repeats eval_epochs eval_interval eval_at eval_split select baselines whole_epochs
local device precision compile images_per_pass threads actors cpus_per_actor gpus_per_actor
placement wait_s checkpoint_interval max_failures hang_timeout_s
"""
OPTIONS = NAMES.split()

# Something other than the default for every option.
OTHERS = {
    "recipe": "cifar10",
    "data": "pictures",
    "data_root": "downloads",
    "size": 32,
    "flips": "on",
    "label_column": "kind",
    "classes": "ant,bee",
    "test_fraction": 0.5,
    "val_fraction": 0.1,
    "limit_per_class": 7,
    "strict": True,
    "cache": "none",
    "cache_dir": "cache",
    "cache_limit": "3GB",
    "method": "dm",
    "ipc": 3,
    "iterations": 5,
    "seed": 9,
    "network": "convnet-12",
    "batch_real": 64,
    "lambda_reg": 0.1,
    "partition": 3,
    "start": "noise",
    "image_step": "per_class",
    "lr_img": 4,
    "momentum_img": 0.0,
    "num_matched_models": 2,
    "outer_rounds": 5,
    "inner_epochs": 7,
    "classes_per_group": 4,
    "queue_size": 50,
    "queue_init": 5,
    "push_interval": 5,
    "train_interval": 30,
    "num_trained_models": 1,
    "train_steps": 50,
    "batch_train": 128,
    "lr_net": 0.1,
    "accuracy_window": 100,
    "pretrained": 3,
    "pretrain_steps": 40,
    "pretrained_classes": "all",
    "protocol": "dc",
    "repeats": 2,
    "eval_epochs": 30,
    "eval_interval": 10,
    "eval_at": "5,15",
    "eval_split": "validation",
    "select": "validation",
    "baselines": "off",
    "whole_epochs": 4,
    "local": True,
    "device": "cpu",
    "precision": "bfloat16",
    "compile": "off",
    "images_per_pass": 100,
    "threads": 2,
    "actors": 3,
    "cpus_per_actor": 0.5,
    "gpus_per_actor": 0.25,
    "placement": "spread",
    "wait_s": 5.0,
    "checkpoint_interval": 50,
    "max_failures": 0,
    "hang_timeout_s": 0.0,
}


def refusal(**options):
    with pytest.raises(UserError) as raised:
        RunConfig.from_flat(options)
    return str(raised.value)


def test_these_are_all_options_in_the_order_they_are_shown():
    # Options are a promise: whoever renames or removes one breaks commands and files of users.
    assert list(option_names()) == OPTIONS


def test_the_defaults_are_the_paper_s_where_it_has_them():
    flat = RunConfig().flat()
    paper = {
        "lambda_reg": 0.5,
        "partition": 2,
        "lr_img": 0.2,
        "momentum_img": 0.5,
        "queue_size": 100,
        "train_steps": 10,
        "lr_net": 0.01,
        "eval_epochs": 1000,
        "repeats": 5,
    }
    assert paper.items() <= flat.items()


def test_flat_options_come_in_order_and_give_the_same_config_again():
    options = OTHERS | {"eval_split": "test"}  # which select excludes
    config = RunConfig.from_flat(options)
    assert list(config.flat()) == OPTIONS
    assert config.flat() == options
    assert RunConfig.from_flat(config.flat()) == config
    assert RunConfig.from_flat(RunConfig().flat()) == RunConfig()
    assert all(value != RunConfig().flat()[name] for name, value in OTHERS.items())


def test_each_part_gets_its_own_options():
    config = RunConfig.from_flat({"size": 32, "ipc": 10, "queue_size": 7, "repeats": 1})
    assert config == RunConfig(
        data=DataConfig(size=32),
        condense=CondenseConfig(ipc=10),
        queue=QueueConfig(queue_size=7),
        evaluation=EvalConfig(repeats=1),
    )


def test_options_that_are_missing_keep_their_defaults():
    assert RunConfig.from_flat({}) == RunConfig()
    assert RunConfig.from_flat({"recipe": "cifar10"}).recipe == "cifar10"


def test_replace_changes_a_copy():
    config = RunConfig()
    changed = config.replace(ipc=10, actors=2)
    assert (changed.condense.ipc, changed.machine.actors) == (10, 2)
    assert config == RunConfig()
    assert changed.replace(ipc=1, actors="auto") == config


@pytest.mark.parametrize("part", [*PARTS.values(), RunConfig])
def test_configs_are_frozen(part):
    for name in (f.name for f in dataclasses.fields(part)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part(), name, None)


def test_options_are_given_by_name_only():
    with pytest.raises(TypeError):
        CondenseConfig("idm")


def test_no_two_parts_have_an_option_of_the_same_name():
    names = [f.name for part in PARTS.values() for f in dataclasses.fields(part)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("size", 3, "from 4 to 8192"),
        ("size", 100_000, "from 4 to 8192"),
        ("limit_per_class", 0, "at least 1"),
        ("test_fraction", 0, "between 0 and 1"),
        ("test_fraction", 1.0, "between 0 and 1"),
        ("val_fraction", -0.1, "at least 0 and below 1"),
        ("val_fraction", 1, "at least 0 and below 1"),
        ("ipc", 0, "at least 1"),
        ("iterations", -1, "at least 0"),
        ("batch_real", 0, "at least 1"),
        ("partition", 0, "at least 1"),
        ("num_matched_models", 0, "at least 1"),
        ("seed", -1, "at least 0"),
        ("lambda_reg", -0.1, "at least 0"),
        ("classes_per_group", 0, "at least 1"),
        ("lr_img", 0, "above 0"),
        ("lr_img", -0.2, "above 0"),
        ("momentum_img", -0.1, "at least 0 and below 1"),
        ("momentum_img", 1, "at least 0 and below 1"),
        ("queue_size", -1, "at least 0"),
        ("queue_init", 0, "at least 1"),
        ("push_interval", 0, "at least 1"),
        ("train_interval", 0, "at least 1"),
        ("num_trained_models", 0, "at least 1"),
        ("train_steps", 0, "at least 1"),
        ("batch_train", 0, "at least 1"),
        ("accuracy_window", 0, "at least 1"),
        ("lr_net", 0.0, "above 0"),
        ("pretrained", -1, "at least 0"),
        ("pretrain_steps", 0, "at least 1"),
        ("pretrained_classes", 1, "at least 2"),
        ("repeats", -1, "at least 0"),
        ("eval_epochs", 0, "at least 1"),
        ("eval_interval", -1, "at least 0"),
        ("whole_epochs", -1, "at least 0"),
        ("threads", 0, "at least 1"),
        ("actors", 0, "at least 1"),
        ("cpus_per_actor", -1, "at least 0"),
        ("gpus_per_actor", -0.5, "at least 0"),
        ("wait_s", -1.0, "at least 0"),
        ("max_failures", -1, "at least 0"),
        ("hang_timeout_s", -0.5, "at least 0"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_what_is_allowed(name, value, allowed):
    assert refusal(**{name: value}) == f"{name} must be {allowed}, got {value!r}"


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet19", "resnet18"), ("convnet-0", "convnet-3"), ("convnet3", "convnet-3")],
)
def test_an_unknown_network_is_refused_with_the_nearest(name, near):
    with pytest.raises(UserError) as raised:
        RunConfig.from_flat({"network": name})
    assert str(raised.value).startswith("network must be auto, convnet-DEPTH such as convnet-3, ")
    assert str(raised.value).endswith(f"or torchvision/NAME, got {name!r}; did you mean {near!r}?")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("ipc", "3", "a whole number"),
        ("ipc", 1.5, "a whole number"),
        ("ipc", True, "a whole number"),
        ("lr_img", "fast", "a number"),
        ("local", 1, "true or false"),
        ("data", 5, "text"),
        ("start", "tile", "'tiles' or 'whole' or 'noise'"),
        ("val_fraction", "a tenth", "a number"),
        ("eval_split", "train", "'test' or 'validation'"),
        ("image_step", "both", "'joint' or 'per_class'"),
        ("accuracy_window", "first", "a whole number or 'lifetime' or 'last'"),
        ("pretrain_steps", 1.5, "a whole number or text"),
        ("pretrained_classes", "some", "a whole number or 'half' or 'all'"),
        ("device", "gpu", "'auto' or 'cpu' or 'cuda'"),
        ("precision", "float16", "'auto' or 'float32' or 'bfloat16'"),
        ("compile", True, "'auto' or 'on' or 'off'"),
        ("threads", "all", "a whole number or 'auto'"),
        ("cpus_per_actor", "all", "a number or 'auto'"),
        ("checkpoint_interval", 0.5, "a whole number or text"),
        ("checkpoint_interval", True, "a whole number or text"),
        ("max_failures", 1.5, "a whole number"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_what_is_allowed(name, value, allowed):
    assert refusal(**{name: value}) == f"{name} must be {allowed}, got {value!r}"


@pytest.mark.parametrize("text", ["epoch", "2 epochs", "60 epochs"])
def test_steps_of_pretraining_can_be_told_in_epochs(text):
    assert RunConfig.from_flat({"pretrain_steps": text}).queue.pretrain_steps == text


# Each has one spelling, so that equal settings are equal texts.
@pytest.mark.parametrize("text", ["epochs", "1 epochs", "0 epochs", "010 epochs", "3epochs", "5"])
def test_other_texts_for_steps_of_pretraining_are_refused(text):
    allowed = "SGD steps such as 500, 'epoch', or epochs such as '10 epochs'"
    assert refusal(pretrain_steps=text) == f"pretrain_steps must be {allowed}, got {text!r}"


def test_a_queue_cannot_start_larger_than_it_may_become():
    assert refusal(queue_size=2) == "queue_init must be at most queue_size, 2, got 3"
    assert RunConfig.from_flat({"queue_size": 3}).queue.queue_init == 3


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("300s", Interval(seconds=300.0)),
        (" 2.5 s", Interval(seconds=2.5)),
        ("1s", Interval(seconds=1.0)),
        ("50", Interval(iterations=50)),
        (1, Interval(iterations=1)),
    ],
)
def test_checkpoints_come_after_seconds_or_iterations(value, meant):
    config = RunConfig.from_flat({"checkpoint_interval": value})
    assert parse_interval("", config.machine.checkpoint_interval) == meant
    assert (meant.seconds is None) != (meant.iterations is None)


@pytest.mark.parametrize(
    "value", [0, -5, "0", "0s", "0.9s", "-1s", "5.5", "", "s", "5m", "often", "1e3s", "nans"]
)
def test_an_interval_of_nothing_is_refused(value):
    assert refusal(checkpoint_interval=value) == (
        "checkpoint_interval must be seconds such as 300s, or iterations such as 50, at least 1, "
        f"got {value!r}"
    )


def test_the_interval_of_evaluations_needs_evaluations():
    message = refusal(repeats=0, eval_interval=10)
    assert message == "eval_interval must be 0 when repeats is 0, got 10"


@pytest.mark.parametrize(
    ("value", "iterations"), [("10", (10,)), (10, (10,)), (" 15, 5,15", (15, 5, 15))]
)
def test_iterations_are_read_as_they_are_written(value, iterations):
    assert parse_iterations("eval_at", value) == iterations


@pytest.mark.parametrize("value", ["", "a", "0", "10,", "-1", "1.5", 0])
def test_iterations_of_evaluations_are_whole_numbers_with_commas(value):
    assert refusal(eval_at=value) == (
        f"eval_at must be iterations such as 10,100, at least 1, got {value!r}"
    )


def test_iterations_of_evaluations_need_evaluations():
    assert refusal(repeats=0, eval_at="5") == "eval_at must be unset when repeats is 0, got '5'"


def test_testing_on_validation_images_needs_some():
    assert refusal(eval_split="validation") == (
        "eval_split validation needs images held out: expected val_fraction above 0, got 0; set "
        "val_fraction, such as 0.1, or eval_split test"
    )
    options = {"eval_split": "validation", "val_fraction": 0.1}
    assert RunConfig.from_flat(options).evaluation.eval_split == "validation"


SELECTING = {"select": "validation", "val_fraction": 0.1, "eval_interval": 5}


def test_an_iterate_is_selected_on_images_that_are_held_out_and_tested_on_others():
    assert RunConfig.from_flat(SELECTING).evaluation.select == "validation"
    assert refusal(**SELECTING | {"val_fraction": 0.0}) == (
        "select validation needs images held out: expected val_fraction above 0, got 0; set "
        "val_fraction, such as 0.1, or select last"
    )
    assert refusal(**SELECTING, eval_split="validation") == (
        "select validation needs other images to test the selected iterate on: expected eval_split "
        "test, got validation; leave out eval_split, or set select last"
    )


def test_an_iterate_is_selected_from_copies():
    assert RunConfig.from_flat(SELECTING | {"eval_interval": 0, "eval_at": "3"})
    assert refusal(**SELECTING | {"eval_interval": 0}) == (
        "select validation needs iterates to select from: expected eval_interval or eval_at, got "
        "neither; set eval_interval, such as 100, or select last"
    )


def test_the_regularization_without_a_queue_is_refused_since_it_would_do_nothing():
    message = refusal(lambda_reg=0.5, queue_size=0)
    assert message.startswith("lambda_reg 0.5 needs a model queue")
    assert message.endswith("set lambda_reg 0 or queue_size >= 1")
    assert RunConfig.from_flat({"lambda_reg": 0.0, "queue_size": 0}).queue.queue_size == 0


@pytest.mark.parametrize(
    ("written", "meant"),
    [("iteration", "iterations"), ("lamda_reg", "lambda_reg"), ("push-interval", "push_interval")],
)
def test_an_unknown_option_is_refused_with_the_nearest_known_one(written, meant):
    message = refusal(**{written: 1})
    assert message == f"unknown option {written!r}; did you mean {meant!r}?"


def test_an_unknown_option_like_no_other_is_refused_with_all_that_are_known():
    message = refusal(zzzzzz=1)
    assert message.startswith("unknown option 'zzzzzz'; known are: recipe, data, ")
    assert message.endswith(OPTIONS[-1])


def test_known_names_pass():
    assert refuse_unknown(["b", "a"], ["a", "b", "c"]) is None


def test_wrong_options_are_also_value_errors():
    with pytest.raises(ValueError, match="ipc must be at least 1"):
        CondenseConfig(ipc=0)
    with pytest.raises(ValueError, match="threads must be at least 1"):
        MachineConfig(threads=0)


@pytest.mark.parametrize(
    "name", ["lr_img", "lambda_reg", "lr_net", "wait_s", "cpus_per_actor", "hang_timeout_s"]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_must_be_finite(name, value):
    assert refusal(**{name: value}).startswith(f"{name} must be a number")


def test_a_part_made_directly_is_checked_too():
    with pytest.raises(UserError, match="unknown method 'idn'; did you mean 'idm'"):
        CondenseConfig(method="idn")
