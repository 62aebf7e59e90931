import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml

import idm_ray
from idm_ray import __version__
from tests.making_runs import TINY, TINY_WORDS, as_words, command, pixels, run

EVALUATE = as_words(data="digits", local=True, device="cpu", threads=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "first", repeats=1)


@pytest.fixture
def a_set(finished):
    return finished.folder / "condensed.parquet"


def refusal(*words, status=2):
    """The one line with which a command ends."""
    outcome = command(*words)
    assert outcome.status == status
    assert outcome.out == ""
    assert re.fullmatch(r"idm-ray: [^\n]+\n", outcome.err), outcome.err
    return outcome.err.removeprefix("idm-ray: ").rstrip()


def refused_config(tmp_path, text):
    path = tmp_path / "options.yaml"
    path.write_text(text)
    return refusal("condense", "--config", path)


# --- A user's mistakes: one line, exit status 2 ---


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("condense --lambda-rg 1", "No such option '--lambda-rg'. Did you mean '--lambda-reg'?"),
        ("condnse", "No such command 'condnse'. Did you mean 'condense'?"),
        ("condense more", "Got unexpected extra argument (more)"),
        ("condense --ipc", "Option '--ipc' requires an argument."),
        ("condense --ipc x", "--ipc must be a whole number, got 'x'"),
        ("condense --ipc 0", "ipc must be at least 1, got 0"),
        (
            "condense --label-column kind",
            "expected Parquet files for --label-column, found other data in 'digits': leave it out",
        ),
        ("condense --test-fraction 2", "test_fraction must be between 0 and 1, got 2.0"),
        (
            "condense --recipe cifr10",
            "unknown recipe 'cifr10'; did you mean 'cifar10'?",
        ),
        (
            "condense --network resnet19",
            "network must be auto, convnet-DEPTH such as convnet-3, alexnet, alexnet-bn, vgg11, "
            "vgg11-bn, resnet18, resnet18-bn, resnet18-ap, resnet18-ap-bn or torchvision/NAME, got "
            "'resnet19'; did you mean 'resnet18'?",
        ),
        (
            "condense --network resnet18-bn",
            "expected a network without batch norm to condense with, got resnet18-bn: choose "
            "another, and test the set on this one by idm-ray evaluate --networks",
        ),
        (
            "condense --network torchvision/resnet19",
            "unknown network 'torchvision/resnet19'; did you mean 'torchvision/resnet18'?",
        ),
        (
            "condense --network convnet-4",
            "network convnet-4 would reduce 8x8 images to a 1x1 map before its last norm; use "
            "convnet-3 at most",
        ),
        (
            "condense --partition 5",
            "partition must leave tiles of at least 2 pixels, got 5 for images of 8 pixels; use "
            "partition <= 4",
        ),
        (
            "condense --repeats 0 --eval-interval 10",
            "eval_interval must be 0 when repeats is 0, got 10",
        ),
        (
            "condense --lambda-reg 0.5 --queue-size 0",
            "lambda_reg 0.5 needs a model queue: fresh networks have no accuracy, so it would "
            "silently do nothing; set lambda_reg 0 or queue_size >= 1",
        ),
        (
            "condense --data digit",
            "expected digits, cifar10, cifar100, mnist, fashionmnist, svhn or an existing "
            "path, found 'digit' (no such file): did you mean "
            "'digits'?",
        ),
        (
            "condense --data no/such/folder",
            "expected digits, cifar10, cifar100, mnist, fashionmnist, svhn or an existing "
            "path, found 'no/such/folder' (no such file): give "
            "the path of a folder with class folders or *.parquet files",
        ),
        ("evaluate", "Missing argument 'FILE'."),
        (
            "evaluate condensed.parquet",
            "expected --data SOURCE, whose test images the set is tested on; got none",
        ),
        (
            "evaluate no.parquet --data digits",
            f"cannot read {os.path.abspath('no.parquet')} (No such file or directory): check the "
            "path and its permissions",
        ),
        (
            "bench --setting cifar",
            "Invalid value for '--setting': 'cifar' is not one of 'cifar10-ipc1', 'cifar10-ipc10', "
            "'cifar10-ipc10-interval30', 'cifar100-ipc10', 'imagenet-224', 'orchestration', 'all'.",
        ),
        (
            "bench --rounds 0",
            "Invalid value for '--rounds': 0 is not in the range x>=1.",
        ),
        (
            "bench --precision float8",
            "--precision must be 'auto' or 'float32' or 'bfloat16', got 'float8'",
        ),
        (
            "bench --json no/such/x.json",
            "expected a folder for --json no/such/x.json, found none; create it first",
        ),
    ],
)
def test_a_mistake_is_answered_in_one_line(words, message):
    assert refusal(*words.split()) == message


def test_the_regularization_is_refused_without_a_queue_even_if_it_comes_from_the_defaults():
    assert "lambda_reg 0.5 needs a model queue" in refusal("condense", "--queue-size", "0")


def test_a_folder_without_images_is_refused(tmp_path):
    message = refusal("condense", "--data", tmp_path)
    assert message.startswith("expected images (.jpg .jpeg .png .webp .bmp) in class folders or ")


def test_a_folder_that_holds_a_run_is_refused_and_left_as_it_is(finished):
    before = pixels(finished.folder)
    message = refusal("condense", "--out", finished.folder, *TINY_WORDS)
    assert message == (
        f"expected a new folder, found a run in {finished.folder}; go on with it by --resume "
        "auto, add --overwrite, or choose another --out"
    )
    assert np.array_equal(pixels(finished.folder), before)


def test_a_run_can_be_overwritten(tmp_path, finished):
    run(tmp_path / "old", seed=1)
    assert command("condense", "--out", tmp_path / "old", "--overwrite", *TINY_WORDS).status == 0
    assert np.array_equal(pixels(tmp_path / "old"), pixels(finished.folder))


BOTH = (
    "expected --resume auto or --overwrite, got both: one goes on with the run that --out holds, "
    "the other removes it"
)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--resume", "auto", "--overwrite"], ""),
        (["--overwrite"], "resume: auto"),
        (["--resume", "auto"], "overwrite: true"),
        ([], "resume: auto\noverwrite: true"),
    ],
)
def test_a_run_cannot_be_both_resumed_and_overwritten(tmp_path, words, text):
    config = tmp_path / "options.yaml"
    config.write_text(f"ipc: 1\n{text}")
    assert refusal("condense", "--config", config, *words) == BOTH


def test_resuming_is_never_or_auto(tmp_path):
    assert refused_config(tmp_path, "resume: always") == (
        "resume must be never or auto, got 'always'"
    )
    assert "'always' is not one of 'never', 'auto'" in refusal("condense", "--resume", "always")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("overwrite: 'no'", "overwrite must be true or false, got 'no'"),
        ("overwrite: 1", "overwrite must be true or false, got 1"),
        ("out: 5", "out must be text, got 5"),
        ("ipc:", "ipc must be a whole number, got None"),
        ("classes: [0, 1]", "classes must be text, got [0, 1]"),
    ],
)
def test_a_value_of_the_wrong_kind_in_a_config_is_refused(tmp_path, text, message):
    assert refused_config(tmp_path, text) == message


def test_going_on_takes_no_option_that_changes_the_numbers(tmp_path):
    message = refusal("resume", tmp_path, "--iterations", "5")
    assert message.startswith("No such option '--iterations'")
    assert refusal("resume") == "Missing argument 'DIR'."


def test_a_missing_config_file_is_refused(tmp_path):
    message = refusal("condense", "--config", tmp_path / "no.yaml")
    assert message.startswith(f"expected a YAML file of options at {tmp_path / 'no.yaml'}: ")
    assert "No such file" in message


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\x00"])
def test_a_config_that_is_no_yaml_is_refused(tmp_path, text):
    assert refused_config(tmp_path, text).startswith("expected a YAML file of options at ")


@pytest.mark.parametrize("text", ["- ipc", "ipc", "", "3"])
def test_a_config_that_is_no_mapping_is_refused(tmp_path, text):
    message = refused_config(tmp_path, text)
    assert message.startswith("expected options as 'name: value' lines in ")
    assert message.endswith(f"found {yaml.safe_load(text)!r}")


def test_a_config_s_tags_are_not_obeyed(tmp_path):
    text = f"ipc: !!python/object/apply:os.mkdir [{tmp_path}/made]"
    assert "could not determine a constructor" in refused_config(tmp_path, text)
    assert not (tmp_path / "made").exists()


def test_an_unknown_key_of_a_config_is_refused_with_the_nearest_known_one(tmp_path):
    message = refused_config(tmp_path, "ipc: 1\nitreations: 3\n")
    assert message == "unknown option 'itreations'; did you mean 'iterations'?"


def test_a_wrong_value_in_a_config_is_refused(tmp_path):
    message = refused_config(tmp_path, "lr-img: quick")
    assert message == "lr_img must be a number, got 'quick'"


def test_a_damaged_set_is_refused(tmp_path, a_set):
    content = bytearray(a_set.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(content)
    assert refusal("evaluate", damaged, *EVALUATE).startswith(f"{damaged}: expected ")


def test_a_file_that_is_no_set_is_refused(finished):
    picture = finished.folder / "gallery.png"
    assert refusal("evaluate", picture, *EVALUATE) == (
        f"{picture}: expected a Parquet file, found another or only a part of one; copy or "
        "download the file again"
    )


def test_a_folder_that_holds_no_set_is_refused(tmp_path):
    message = refusal("evaluate", tmp_path, *EVALUATE)
    assert message == (
        f"{tmp_path}: expected a condensed set, found a folder without condensed.parquet or "
        "card.json; name the folder of a run, or what idm-ray export wrote"
    )


def test_an_evaluation_without_networks_is_refused(a_set):
    message = refusal("evaluate", a_set, *EVALUATE, "--repeats", "0")
    assert message == "repeats must be at least 1 to evaluate, got 0"


# --- What goes wrong in a run, and signals ---


def test_a_run_that_diverges_ends_with_status_1_and_one_last_line(tmp_path):
    outcome = command("condense", "--out", tmp_path, *TINY_WORDS, "--lr-img", "1e30")
    assert outcome.status == 1
    last = outcome.err.splitlines()[-1]
    assert re.match(r"idm-ray: the loss of class \d+ is not finite at iteration 1, ", last)
    assert "Traceback" not in outcome.err


def test_debug_shows_the_traceback():
    program = shutil.which("idm-ray", path=sysconfig.get_path("scripts"))
    done = subprocess.run(
        [program, "--debug", "condense", "--config", "no.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert "UserError: expected a YAML file of options at no.yaml" in done.stderr


@pytest.mark.parametrize(
    ("signal_number", "status", "message"),
    [
        (signal.SIGINT, 130, "idm-ray: interrupted"),
        (signal.SIGTERM, 143, "idm-ray: terminated"),
    ],
    ids=["ctrl-c", "sigterm"],
)
def test_a_signal_ends_the_command_with_its_status(tmp_path, signal_number, status, message):
    program = shutil.which("idm-ray", path=sysconfig.get_path("scripts"))
    pipe = tmp_path / "options.yaml"
    os.mkfifo(pipe)
    # A shell's background jobs ignore Ctrl-C, and so would what this process starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [program, "condense", "--config", pipe], stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    rescue = threading.Timer(60, os.open, (pipe, os.O_RDONLY | os.O_NONBLOCK))
    rescue.start()
    with open(pipe, "w"):  # goes on when the command has begun to read its options
        rescue.cancel()
        process.send_signal(signal_number)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error.strip()) == (status, message)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_the_status_tells_where_standard_error_is_on_a_full_disk():
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "idm_ray.cli", "condense", "--ipc", "0"],
            stderr=full,
            check=False,
        )
    assert ended.returncode == 2


# --- What works ---


def test_the_version_is_shown():
    outcome = command("--version")
    assert (outcome.status, outcome.out.strip()) == (0, f"idm-ray, version {__version__}")


def test_help_exits_with_0():
    outcome = command("condense", "-h")
    assert outcome.status == 0
    assert re.match(r"Usage: .*idm-ray condense \[OPTIONS\]\n", outcome.out)


def test_a_run_says_what_it_does_in_plain_lines_and_prints_the_result(tmp_path):
    words = as_words(**TINY | {"repeats": 1, "ipc": 2})
    outcome = command("condense", "--out", tmp_path / "run", *words)
    assert outcome.status == 0
    lines = outcome.err.splitlines()
    assert lines[:3] == [
        "digits: 10 classes, 200 training and 359 test images of 1x8x8",
        "recipe digits: chosen for a laptop",
        f"writing to {tmp_path / 'run'}",
    ]
    assert re.fullmatch("one process on .+, 1 thread", lines[3])
    assert re.fullmatch(
        "convnet-2 in (float32|bfloat16), not compiled; 2 groups of up to 5 classes", lines[4]
    )
    assert lines[5].startswith("condense 3/3  ")
    assert re.fullmatch(r"checkpoint of iteration 3: [\d.]+ (kB|MB)", lines[6])
    assert lines[7].startswith("evaluate 3/3  ")
    assert lines[8:] == [f"condensed set and gallery in {tmp_path / 'run'}"]
    title = outcome.out.splitlines()[0].strip()
    assert title == "digits: 2 per class, 20 images, 10 % of the training images"
    for label in ("IDM", "its own start", "random real images"):
        assert f"│ {label} " in outcome.out


def test_what_the_method_does_not_use_is_named_in_one_warning(tmp_path):
    words = ("--method", "dm", "--partition", "2", *TINY_WORDS)
    outcome = command("condense", "--out", tmp_path, *words)
    assert outcome.status == 0
    warnings = [line for line in outcome.err.splitlines() if line.startswith("warning")]
    assert warnings == [
        "warning: method dm does not use --partition, --queue-size, --push-interval, "
        "--train-steps: ignored"
    ]


def test_options_can_come_from_a_file_and_those_on_the_command_line_win(tmp_path):
    written = {name.replace("_", "-"): value for name, value in TINY.items()}
    (tmp_path / "options.yaml").write_text(yaml.safe_dump(written | {"ipc": 3, "seed": 5}))
    config = ("--config", tmp_path / "options.yaml", "--out", tmp_path / "run")
    assert command("condense", *config, "--seed", "6", "--iterations", "1").status == 0
    options = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["options"]
    names = ("ipc", "seed", "iterations", "batch_real")
    assert [options[name] for name in names] == [3, 6, 1, TINY["batch_real"]]


def test_a_run_s_own_config_gives_the_same_pixels_and_accuracies_again(tmp_path, finished):
    config = finished.folder / "config.yaml"
    assert command("condense", "--config", config, "--out", tmp_path / "again").status == 0
    assert np.array_equal(pixels(tmp_path / "again"), pixels(finished.folder))
    summary = json.loads((tmp_path / "again" / "summary.json").read_text())
    assert summary["evaluation"] == finished.summary["evaluation"]
    first, second = (
        yaml.safe_load(path.read_text()) for path in (config, tmp_path / "again" / "config.yaml")
    )
    assert first["options"] == second["options"]


def test_an_evaluation_prints_a_table_and_writes_json(tmp_path, a_set):
    target = tmp_path / "found.json"
    words = (*EVALUATE, "--networks", "convnet-1,convnet-2", "--json", target)
    outcome = command("evaluate", a_set, *words)
    assert outcome.status == 0
    assert "│ convnet-1 │" in outcome.out
    found = json.loads(target.read_text())
    assert (found["file"], found["data"]) == (str(a_set), "digits")
    assert list(found["networks"]) == ["convnet-1", "convnet-2"]
    for result in found["networks"].values():
        names = ["protocol", "epochs", "split", "repeats", "mean", "std", "accuracies"]
        assert list(result) == names
        assert (result["protocol"], result["epochs"], result["repeats"]) == ("paper", 2, 1)
        assert result["accuracies"] == [result["mean"]]


SHORT = ("--local", "--device", "cpu", "--iterations", 2, "--eval-epochs", 1, "--repeats", 1)


def test_a_quiet_run_prints_its_result_alone(tmp_path):
    outcome = command("condense", *SHORT, "--out", tmp_path / "run", "--quiet")
    assert outcome.status == 0
    assert outcome.err == f"condensed set and gallery in {tmp_path / 'run'}\n"
    assert "test accuracy, %" in outcome.out


def test_a_quiet_run_still_warns_and_complains(tmp_path):
    unused = ("--method", "dm", "--lambda-reg", 1)
    outcome = command("condense", *SHORT, *unused, "--out", tmp_path / "run", "-q")
    assert outcome.err.startswith("warning: ")
    assert refusal("condense", "-q", "--ipc", 0).startswith("ipc must be at least 1")


def test_a_run_prints_its_result_as_json(tmp_path):
    outcome = command("condense", *SHORT, "--out", tmp_path / "run", "--json", "-")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert json.loads(outcome.out) == {"folder": str(tmp_path / "run"), **summary}
    again = command("resume", tmp_path / "run", "--json", tmp_path / "x.json")
    assert again.status == 0
    assert json.loads((tmp_path / "x.json").read_text()) == json.loads(outcome.out)


@pytest.mark.parametrize("made", [b"PAR1", b"[1]", b"text"])
def test_a_file_of_something_else_is_never_replaced_by_json(tmp_path, a_set, made):
    target = tmp_path / "x.json"
    target.write_bytes(made)
    words = ("export", a_set, "--out", tmp_path / "set.npz", "--json")
    assert "found another; choose another name" in refusal(*words, target)
    assert target.read_bytes() == made
    assert not (tmp_path / "set.npz").exists()


def test_json_goes_neither_over_what_the_command_wrote_nor_instead_of_a_device(tmp_path, a_set):
    target = tmp_path / "set.npz"
    outcome = command("export", a_set, "--out", target, "--json", target)
    assert outcome.status == 2
    assert idm_ray.load(target).card == idm_ray.load(a_set).card
    again = ("export", a_set, "--out", target, "--overwrite", "--json", "/dev/null")
    assert command(*again).status == 0
    assert not Path("/dev/null").is_file()


def test_an_export_says_what_was_written_and_how_to_use_it(tmp_path, a_set):
    words = ("--out", tmp_path / "set.npz", "--json", tmp_path / "x.json")
    outcome = command("export", a_set, *words)
    card = idm_ray.load(a_set).card
    told = f"10 images in {tmp_path / 'set.npz'}. {card.usage}"
    assert " ".join(outcome.out.split()) == told
    found = json.loads((tmp_path / "x.json").read_text())
    assert (found["form"], found["num_images"], found["usage"]) == ("npz", 10, card.usage)
    assert "add --overwrite" in refusal("export", a_set, *words)
    folder = command("export", a_set, "--format", "folder", "--out", tmp_path / "folder")
    assert re.search(r"Of their numbers, \d+\.\d % were darker than black", folder.out)


def test_a_recipe_that_is_no_text_is_refused(tmp_path):
    assert refused_config(tmp_path, "recipe: 5").startswith("recipe must be text")


def test_a_json_file_that_cannot_be_written_is_refused_first(tmp_path, a_set):
    assert "--json" in refusal("evaluate", a_set, *EVALUATE, "--json", tmp_path / "no" / "x.json")


@pytest.mark.slow
def test_a_bench_prints_a_table_and_writes_an_object_for_each_setting(tmp_path):
    path = tmp_path / "bench.json"
    words = ["--setting", "imagenet-224", "--rounds", "1", "--compile", "off", "--json", path]
    outcome = command("bench", *words, "--device", "cpu")
    assert outcome.status == 0
    assert "images/s" in outcome.out
    found = json.loads(path.read_text())["imagenet-224"]
    assert {"ratio", "void", "ours", "published", "context"} <= set(found)
    assert set(found["ours"]["parts"]) == set(found["published"]["parts"])


def test_without_a_command_the_help_is_shown():
    assert command().err.count("\n") > 5


def test_a_config_may_hold_what_yaml_reads_in_its_own_way(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(f"lr-img: 1e-3\ncompile: off\nout: {tmp_path / 'there'}\n")
    words = as_words(**TINY)
    assert command("condense", "--config", config, *words).status == 0
    options = yaml.safe_load((tmp_path / "there" / "config.yaml").read_text())["options"]
    assert (options["lr_img"], options["compile"]) == (1e-3, "off")


def test_the_training_loss_of_a_network_that_diverges_ends_in_one_line(tmp_path):
    words = as_words(**TINY | {"lr_net": 1e20})
    outcome = command("condense", "--out", tmp_path / "run", *words)
    assert outcome.status == 1
    last = outcome.err.splitlines()[-1]
    assert re.fullmatch("idm-ray: the training loss of model . is not finite .* lr_net.*", last)
    assert "Traceback" not in outcome.err


def test_a_config_of_a_dm_run_is_taken_again_without_a_warning(tmp_path):
    words = as_words(**TINY | {"method": "dm"})
    assert command("condense", "--out", tmp_path / "a", *words).status == 0
    config = tmp_path / "a" / "config.yaml"
    again = command("condense", "--config", config, "--out", tmp_path / "b")
    assert again.status == 0
    assert "warning" not in again.err
