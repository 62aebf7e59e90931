import click
import pytest

from idm_ray.cli import cli
from idm_ray.config import RunConfig, option_names
from idm_ray.errors import UserError
from idm_ray.options import config_options
from tests.making_runs import command

# A promise: whoever renames or removes one breaks commands and scripts of users.
CONDENSE = """
--log-format --out --overwrite --resume --config -q --quiet --json
--recipe
--data --data-root --size --flips --label-column --classes --test-fraction --val-fraction
--limit-per-class --strict --cache --cache-dir --cache-limit
--method --ipc --iterations --seed --network --batch-real --lambda-reg --partition --start
--image-step --lr-img --momentum-img --num-matched-models --outer-rounds --inner-epochs
--classes-per-group
--queue-size --queue-init --push-interval --train-interval --num-trained-models --train-steps
--batch-train --lr-net --accuracy-window --pretrained --pretrain-steps --pretrained-classes
--protocol --repeats --eval-epochs --eval-interval --eval-at --eval-split --select --baselines
--whole-epochs
--local --device --precision --compile --images-per-pass --threads --actors --cpus-per-actor
--gpus-per-actor --placement --wait-s --checkpoint-interval --max-failures --hang-timeout-s
"""
EVALUATE = """
--networks -q --quiet --json
--data --data-root --size --flips --label-column --classes --test-fraction --val-fraction
--limit-per-class --strict --cache --cache-dir --cache-limit
--seed
--protocol --repeats --eval-epochs --eval-split
--local --device --precision --compile --images-per-pass --threads --actors --cpus-per-actor
--gpus-per-actor --wait-s
"""
ANALYSE = """
--k --network --feature-epochs --out --overwrite -q --quiet --json
--data --data-root --size --label-column --classes --test-fraction --val-fraction
--limit-per-class --strict --cache --cache-dir --cache-limit
--seed
--device --precision --compile --images-per-pass --threads
"""
RESUME = """
--log-format -q --quiet --json
--data --data-root --label-column --strict --cache --cache-dir --cache-limit
--local --actors --cpus-per-actor --gpus-per-actor --placement --wait-s
--checkpoint-interval --max-failures --hang-timeout-s
"""
SHARDS = """
--out --shard-mb --overwrite -q --quiet --json
--data-root --size --label-column --classes --test-fraction --limit-per-class --strict
--cache-dir --local
"""
EXPORT = """
--format --out --expand --overwrite -q --quiet --json
"""
BENCH = """
--setting --rounds -q --quiet --json
--device --precision --compile --threads
"""


def options_of(name):
    return [p for p in cli.commands[name].params if isinstance(p, click.Option)]


def given(*words):
    """What `condense` is given for some words, without running it."""
    # Click keeps a command's help option as its first context has it, so it is the real parent.
    parent = click.Context(cli, **cli.context_settings)
    params = cli.commands["condense"].make_context("condense", list(words), parent).params
    return {name: value for name, value in params.items() if value not in (None, False)}


def refusal(*words):
    with pytest.raises(UserError) as raised:
        given(*words)
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("condense", CONDENSE),
        ("resume", RESUME),
        ("evaluate", EVALUATE),
        ("analyse", ANALYSE),
        ("shards", SHARDS),
        ("export", EXPORT),
        ("bench", BENCH),
    ],
)
def test_these_are_all_options_in_the_order_they_are_shown(name, flags):
    assert [flag for option in options_of(name) for flag in option.opts] == flags.split()


def test_the_config_s_options_are_those_of_the_command():
    own = ["log_format", "out", "overwrite", "resume", "config_file"]
    own += ["quiet", "json"]
    assert [option.name for option in options_of("condense")] == [*own, *option_names()]


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_and_option_has_a_help(name):
    assert cli.commands[name].help
    for option in cli.commands[name].params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert "\n" not in option.help


def test_the_help_shows_defaults_and_choices_under_headings():
    text = " ".join(command("condense", "--help").out.split())
    assert "--method TEXT idm; dm:" in text
    assert "--lambda-reg NUMBER Weight of the class-aware regularization" in text
    assert "percent (Eq. 5). [0.5]" in text
    assert "--threads INT|auto" in text
    assert "--accuracy-window INT|lifetime|last" in text
    assert "--size INT Resize" in text
    headings = ["This command:", "Which images, ", "The condensation itself", "The model queue"]
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)


def test_an_option_that_is_not_given_is_none_so_that_a_recipe_may_fill_it():
    assert given() == {}


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--ipc 10", "ipc", 10),
        ("--lr-img 1e-3", "lr_img", 0.001),
        ("--lr-img 4", "lr_img", 4.0),
        ("--size 32", "size", 32),
        ("--threads 2", "threads", 2),
        ("--threads auto", "threads", "auto"),
        ("--cpus-per-actor 0.5", "cpus_per_actor", 0.5),
        ("--checkpoint-interval 300s", "checkpoint_interval", "300s"),
        ("--checkpoint-interval 50", "checkpoint_interval", 50),
        ("--accuracy-window 100", "accuracy_window", 100),
        ("--accuracy-window last", "accuracy_window", "last"),
        ("--start noise", "start", "noise"),
        ("--data 5", "data", "5"),
        ("--recipe cifar10", "recipe", "cifar10"),
        ("--local", "local", True),
        ("--overwrite", "overwrite", True),
        ("--resume auto", "resume", "auto"),
    ],
)
def test_a_text_becomes_what_the_option_takes(words, name, value):
    params = given(*words.split())
    assert params == {name: value}
    assert type(params[name]) is type(value)


def test_names_are_hyphenated_only():
    with pytest.raises(click.NoSuchOption):
        given("--lr_img", "1")


def test_a_yes_or_no_is_a_flag():
    with pytest.raises(click.UsageError):
        given("--local", "true")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--ipc x", "--ipc must be a whole number, got 'x'"),
        ("--ipc 1.5", "--ipc must be a whole number, got '1.5'"),
        ("--size auto", "--size must be a whole number, got 'auto'"),
        ("--lr-img fast", "--lr-img must be a number, got 'fast'"),
        ("--start Tiles", "--start must be 'tiles' or 'whole' or 'noise', got 'Tiles'"),
        ("--compile yes", "--compile must be 'auto' or 'on' or 'off', got 'yes'"),
        ("--threads all", "--threads must be a whole number or 'auto', got 'all'"),
        ("--gpus-per-actor x", "--gpus-per-actor must be a number or 'auto', got 'x'"),
        (
            "--accuracy-window x",
            "--accuracy-window must be a whole number or 'lifetime' or 'last', got 'x'",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_the_option_and_what_it_takes(words, message):
    assert refusal(*words.split()) == message


def test_a_command_can_take_some_of_the_options():
    @click.command()
    @config_options(["threads", "ipc"])
    def some(**options):
        pass

    assert [option.opts for option in some.params] == [["--ipc"], ["--threads"]]


def test_the_defaults_in_the_help_are_those_of_the_config():
    defaults = RunConfig().flat()
    for option in options_of("condense"):
        default = defaults.get(option.name)
        if default is not None and not isinstance(default, bool):
            assert option.help.endswith(f"[{default}]"), option.name
