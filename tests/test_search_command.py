"""What `idm-ray tune` says before any run begins: its mistakes, and its list of searches."""

import importlib.util
import re

import pytest

from idm_ray.searches.catalog import SEARCHES
from tests.making_runs import command


def refusal(*words):
    """The one line with which a search is refused."""
    outcome = command("tune", *words)
    assert outcome.status == 2
    assert outcome.out == ""
    assert re.fullmatch(r"idm-ray: [^\n]+\n", outcome.err), outcome.err
    return outcome.err.removeprefix("idm-ray: ").rstrip()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--budget much",
            "budget must be trials such as 20, or time such as 90m or 2h, got 'much'",
        ),
        ("--budget 0", "budget must be trials such as 20, or time such as 90m or 2h, got '0'"),
        (
            "--search all",
            "search all draws from a space and needs a budget: give --budget, such as 20 (trials) "
            "or 2h",
        ),
        (
            "--search components --budget 3",
            "expected a search that settings can be drawn from for --budget, got components, whose "
            "points are a grid; leave out --budget",
        ),
        (
            "--search lambda_reg --search lr_img --budget 3",
            "expected one --search for --budget, got lambda_reg, lr_img",
        ),
        (
            "--seeds 2 --budget 3",
            "expected --seeds or --budget, got both: drawn settings are tried once each, with "
            "--seed; leave one out",
        ),
        ("--seeds 0", "Invalid value for '--seeds': 0 is not in the range x>=1."),
        ("--search lamda_reg", "unknown search 'lamda_reg'; did you mean 'lambda_reg'?"),
        (
            "--search batch_real",
            "expected values for batch_real, which no named search varies; give --values, such as "
            "--search batch_real --values 1,2,4",
        ),
        (
            "--search seed --values 1,2",
            "expected an option of the method to vary, got seed: every point runs with several "
            "seeds, give --seeds",
        ),
        ("--search queue_size --values 4,x", "queue_size must be a whole number, got 'x'"),
        (
            "--search components --values 1",
            "expected an option for --values, got search components, which sets several; name one "
            "of them, or write a file of options",
        ),
        (
            "--search lambda_reg --search lr_img --values 1",
            "expected one --search for --values, got lambda_reg, lr_img",
        ),
        (
            "--method dm",
            "search lambda_reg varies lambda_reg, expected method idm, got dm, which does not have "
            "them; leave out --method",
        ),
        ("--log comet", "Invalid value for '--log': 'comet' is not one of 'mlflow', 'wandb'."),
        ("--repeats 0", "repeats must be at least 1 for a search, got 0"),
        (
            "--val-fraction 0",
            "val_fraction must be above 0 for a search, whose settings are compared on validation "
            "images, got 0",
        ),
        (
            "--gpus-per-trial 1 --gpus-per-actor 1",
            "expected --gpus-per-trial or --gpus-per-actor, got both; give one",
        ),
        (
            "--gpus-per-trial 1 --actors auto",
            "--gpus-per-trial needs --actors, a number; leave out --actors auto",
        ),
        (
            "--search partition --values 1,9",
            "partition must leave tiles of at least 2 pixels, got 9 for images of 8 pixels; use "
            "partition <= 4",
        ),
    ],
)
def test_a_mistake_is_answered_in_one_line_and_leaves_no_folder(tmp_path, words, message):
    assert refusal("--out", tmp_path / "search", *words.split()) == message
    assert not (tmp_path / "search").exists()


@pytest.mark.skipif(bool(importlib.util.find_spec("mlflow")), reason="mlflow is installed")
def test_a_logger_that_is_not_installed_is_refused_with_how_to_install_it():
    assert refusal("--log", "mlflow") == (
        "expected mlflow to be installed for --log mlflow, found no such package; pip install "
        "mlflow"
    )


def test_what_a_search_decides_is_no_option_of_the_command():
    for option in ("--eval-split", "--eval-interval", "--baselines", "--local"):
        assert refusal(option, "test").startswith(f"No such option '{option}'.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lambda-rg: 1", "unknown option 'lambda_rg'; did you mean 'lambda_reg'?"),
        (
            "eval-split: test",
            "expected no eval_split for a search, which has its own (validation), got test; leave "
            "it out",
        ),
        ("local: true", "expected no local for a search, which has its own (False), got True; "),
        ("repeats: 0", "repeats must be at least 1 for a search, got 0"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, text, message):
    config = tmp_path / "options.yaml"
    config.write_text(text)
    assert refusal("--config", config).startswith(message)


def test_a_config_that_is_not_there_is_refused(tmp_path):
    message = refusal("--config", tmp_path / "no.yaml")
    assert message.startswith(f"expected a YAML file of options at {tmp_path / 'no.yaml'}: ")


def test_a_file_without_lists_of_values_is_refused(tmp_path):
    grid = tmp_path / "grid.yaml"
    grid.write_text("queue_size: 5")
    assert refusal("--search", grid) == (
        f"expected a list of values for queue_size in {grid}, found 5; write "
        "'queue_size: [value, ...]'"
    )


def test_the_list_names_all_searches_and_runs_none(tmp_path):
    outcome = command("tune", "--list", "--iterations", "40", "--out", tmp_path / "search")
    assert (outcome.status, outcome.err) == (0, "")
    assert all(f"│ {name} " in outcome.out for name in SEARCHES)
    assert "│ 4, 6, 8, 11 " in outcome.out
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--search partition --budget 90m",
            "expected a budget of at most 3 trials for partition, of which there are no more "
            "settings; leave out --budget to try them all, or search in ranges (--search all)",
        ),
        ("--search partition --values 1,9 --budget 2", "9"),
        ("--search lr_img --values=-1,1 --budget 2", "lr_img must be above 0, got -1"),
    ],
)
def test_what_would_be_drawn_is_looked_at_before_anything_runs(words, message, tmp_path):
    assert message in refusal("--out", tmp_path / "search", *words.split())
    assert not (tmp_path / "search").exists()


def test_a_search_goes_on_in_a_folder_that_is_named():
    assert refusal("--resume", "auto") == (
        "--resume auto needs --out: the folder of the search that is to go on"
    )


def test_a_file_that_is_called_like_another_search_is_refused(tmp_path):
    grid = tmp_path / "lambda_reg.yaml"
    grid.write_text("lambda_reg: [3, 4]\n")
    assert refusal("--search", "lambda_reg", "--search", grid) == (
        "expected searches with names of their own, found two called lambda_reg; name the files "
        "otherwise"
    )


def test_a_folder_with_a_run_is_no_folder_for_a_search(tmp_path):
    (tmp_path / "config.yaml").touch()
    outcome = command("tune", "--out", tmp_path)
    assert outcome.status == 2
    assert outcome.err.splitlines()[-1] == (
        f"idm-ray: expected a folder for a search, found a run in {tmp_path}; choose another --out"
    )


@pytest.mark.parametrize("words", ["--searcher random", "--early-stopping off"])
def test_how_settings_are_drawn_is_said_of_a_budget_alone(words):
    flag = words.split()[0]
    assert refusal(*words.split()) == (
        f"expected --budget with {flag}, which says how settings are drawn"
    )
