"""Searches on a cluster: their runs are those of `condense`, and each is made once."""

import csv
import dataclasses
import json
import shutil
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import yaml

from idm_ray.config import RunConfig
from idm_ray.errors import ResourceError, UserError
from idm_ray.execution import Standing
from idm_ray.progress import Announcement
from idm_ray.recorded_queue import Counts
from idm_ray.results.condensed import read_arrays
from idm_ray.run import condense
from idm_ray.runtime.tried import Draws
from idm_ray.runtime.tuning import _cause
from idm_ray.searches.catalog import SEARCHES
from idm_ray.searches.job import Job
from idm_ray.tuning.request import Ablation, Drawing
from idm_ray.tuning.tune import tune
from tests.docstrings import complaints
from tests.making_runs import command
from tests.runtime.running import settled

RUNS = {
    "data": "digits",
    "limit_per_class": 30,
    "iterations": 5,
    "batch_real": 16,
    "batch_train": 32,
    "train_steps": 2,
    "train_interval": 2,
    "push_interval": 2,
    "queue_size": 4,
    "classes_per_group": 5,
    "threads": 1,
    "device": "cpu",
    "gpus_per_actor": 0,
    "repeats": 1,
    "eval_epochs": 2,
}


def write_searches(folder, **searches):
    """Files of searches over one option each, and their paths."""
    for name, values in searches.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({name: values}))
    return [str(folder / f"{name}.yaml") for name in searches]


@dataclasses.dataclass(frozen=True)
class Asked:
    """A search that came to its end: what was asked, found and told, and where it is."""

    question: dict
    found: object
    told: list
    folder: object

    @property
    def last(self):
        """How the trials stood at the end, by their folders."""
        standing = [event for event in self.told if isinstance(event, Standing)]
        return {trial.folder: trial for trial in standing[-1].trials} if standing else {}

    @property
    def results(self):
        return [result for found in self.found.found for result in found.results]

    def again(self, folder):
        """Go on with a copy of it in another folder."""
        return ask(folder, resume="auto", **self.question)


def ask(folder, *, resume="never", **question):
    told = []
    found = tune(out=folder, resume=resume, listener=told.append, **question)
    return Asked(question, found, told, folder)


def copy_of(asked, folder):
    shutil.copytree(asked.folder, folder)
    return folder


def files_of(folder):
    """When each file of the runs of a search was written."""
    return {
        path.relative_to(folder): path.stat().st_mtime_ns
        for path in sorted((folder / "trials").rglob("*"))
        if path.is_file()
    }


def rows_of(asked):
    """All rows, without what they took."""
    return [
        dataclasses.replace(row, seconds=0.0) for found in asked.found.found for row in found.rows
    ]


def assert_like_plain_runs(asked, folder, **more):
    """Images and accuracies of all trials that are done, against runs without any search."""
    done = {result.folder: result for result in asked.results if result.status == "done"}
    for number, result in enumerate(done.values()):
        options = {**RUNS, **more, **result.options, "seed": result.seed, "local": True}
        plain = condense(
            out=folder / str(number),
            val_fraction=0.2,
            eval_split="validation",
            baselines="off",
            **{name: value for name, value in options.items() if name != "gpus_per_actor"},
        )
        images, _, _ = read_arrays(plain.folder / "condensed.parquet")
        ours, _, _ = read_arrays(asked.folder / result.folder / "condensed.parquet")
        assert ours.tobytes() == images.tobytes()
        assert list(result.accuracies) == plain.summary["evaluation"]["accuracies"]
    return len(done)


# --- A grid whose runs share queues ---


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Two weights of the regularization with two seeds, on parts of a GPU."""
    folder = tmp_path_factory.mktemp("shared")
    return ask(
        folder / "search",
        search=write_searches(folder, lambda_reg=[0, 0.5]),
        how=Ablation(seeds=2),
        **{**RUNS, "gpus_per_actor": 0.25},
    )


def test_the_runs_of_a_grid_are_plain_runs_bit_for_bit(shared, tmp_path):
    assert [(r.label, r.seed, r.status) for r in shared.results] == [
        (label, seed, "done") for label in ("0", "0.5") for seed in (0, 1)
    ]
    assert assert_like_plain_runs(shared, tmp_path) == 4


def test_a_queue_is_trained_once_for_each_seed_and_serves_every_point(shared):
    assert shared.found.queues == (Counts(trained=5, served=10),) * 2


def test_a_search_leaves_tables_figures_and_the_best_setting(shared):
    with (shared.folder / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    table = pq.read_table(shared.folder / "results.parquet")
    assert (
        [line["label"] for line in lines] == table["label"].to_pylist() == ["0", "0", "0.5", "0.5"]
    )
    for suffix in ("png", "svg"):
        assert (shared.folder / f"lambda_reg.{suffix}").stat().st_size > 1000
    summary = json.loads((shared.folder / "summary.json").read_text())
    (search, row) = shared.found.best
    assert summary["best"] == {"search": search.name, "label": row.label, "options": row.options}
    assert row.mean == max(one.mean for one in shared.found.found[0].rows)
    assert summary["shared_queues"] == [{"trained": 5, "served": 10}] * 2


def test_the_logs_say_what_each_run_is(shared):
    for number, weight in enumerate((0, 0.5)):
        for seed in (0, 1):
            there = shared.folder / "logs" / f"lambda_reg-{number}-seed{seed}"
            told = json.loads((there / "params.json").read_text())
            assert told["setting"] == {"lambda_reg": weight, "seed": seed}


def test_the_best_setting_is_tested_on_test_images_once_for_each_seed(shared):
    assert set(shared.found.test) == {0, 1}
    for accuracies in shared.found.test.values():
        assert len(accuracies) == 1
        assert 0 < accuracies[0] < 1
    assert shared.found.baselines["random"]["split"] == "validation"


def test_the_best_setting_is_a_config_that_condense_takes(shared, tmp_path):
    config = shared.folder / "best.yaml"
    words = ("--local", "--repeats", "0", "--gpus-per-actor", "auto", "--out", tmp_path / "run")
    outcome = command("condense", "--config", config, *words)
    assert outcome.status == 0, outcome.err
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["options"]
    best = shared.found.best[1].options["lambda_reg"]
    assert (written["lambda_reg"], written["iterations"]) == (best, 5)


def test_a_finished_search_that_is_asked_again_runs_nothing(shared, tmp_path):
    folder = copy_of(shared, tmp_path / "copy")
    before = files_of(folder)
    again = shared.again(folder)
    assert files_of(folder) == before
    assert again.last == {}
    assert again.found.queues == ()
    assert rows_of(again) == rows_of(shared)
    assert again.found.test == shared.found.test
    assert Announcement("4 runs, 4 of them complete") in again.told


def test_a_search_goes_on_with_the_runs_that_are_missing_alone(shared, tmp_path):
    folder = copy_of(shared, tmp_path / "copy")
    missing = "trials/lambda_reg-1-seed1"
    shutil.rmtree(folder / missing)
    before = files_of(folder)
    again = shared.again(folder)
    assert {name: time for name, time in files_of(folder).items() if name in before} == before
    assert list(again.last) == [missing]
    assert rows_of(again) == rows_of(shared)
    ours, theirs = (
        read_arrays(place / missing / "condensed.parquet")[0] for place in (folder, shared.folder)
    )
    assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"how": Ablation(seeds=3)}, "how {'seeds': 2} there, {'seeds': 3} now"),
        ({"values": "0,1"}, "values None there, 0,1 now"),
        ({"iterations": 6}, "'iterations': 5"),
    ],
    ids=["how", "values", "options"],
)
def test_another_question_in_the_folder_of_a_search_is_refused(shared, changes, told):
    question = shared.question | changes
    if "values" in changes:
        question["search"] = "lambda_reg"
    with pytest.raises(UserError, match="was asked otherwise") as refused:
        ask(shared.folder, resume="auto", **question)
    assert told in str(refused.value)


def test_a_folder_with_a_search_is_refused_unless_it_is_to_go_on(shared):
    with pytest.raises(UserError, match=r"^expected a new folder, found a search in "):
        ask(shared.folder, **shared.question)


# --- Grids whose runs have queues of their own, and one that fails ---


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("apart")
    searches = write_searches(folder, train_steps=[1, 2], queue_size=[4, 60, 100], lr_net=[1e20])
    return ask(folder / "search", search=searches, how=Ablation(seeds=1), **RUNS)


@pytest.mark.slow
def test_runs_with_queues_of_their_own_are_plain_runs_bit_for_bit(apart, tmp_path):
    assert assert_like_plain_runs(apart, tmp_path) == 3
    assert apart.found.queues == ()


@pytest.mark.slow
def test_points_that_cannot_differ_run_once_also_across_searches(apart):
    assert [row.same_as for row in apart.found.found[1].rows] == ["", "", "60"]
    folders = {(r.search, r.label): r.folder for r in apart.results}
    assert folders["queue_size", "4"] == folders["train_steps", "2"]
    assert len(list((apart.folder / "trials").iterdir())) == len(set(folders.values())) == 4
    note = "queue_size: 60 = 100: cannot differ within 5 iterations, run once"
    assert Announcement(note) in apart.told


@pytest.mark.slow
def test_a_run_that_fails_shows_its_cause_and_the_others_come_to_their_end(apart):
    *others, failed = apart.results
    assert {result.status for result in others} == {"done"}
    assert failed.status == "failed"
    assert failed.cause.startswith("the training loss of model ")
    assert "\n" not in failed.cause
    assert apart.found.found[2].rows[0].causes == (failed.cause,)
    written = pq.read_table(apart.folder / "results.parquet").to_pylist()[-1]
    assert (written["status"], written["cause"]) == ("failed", failed.cause)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (
            "Failure # 1\nray::train()\nValueError: x\n\n"
            "idm_ray.runtime.tuning.TrialFailedError: the loss: of 2 (why)\n",
            "the loss: of 2 (why)",
        ),
        (
            "Failure # 1\nThe actor died unexpectedly.\nThe actor is dead because its node died.\n",
            "its node died",
        ),
        ("Failure # 1\nOut of memory.\nMuch more.\n", "Out of memory."),
    ],
)
def test_a_cause_is_read_from_the_text_and_nothing_is_unpickled(text, cause, tmp_path):
    (tmp_path / "error.txt").write_text(text)
    (tmp_path / "error.pkl").write_bytes(b"cos\nabort\n(tR.")
    trial = SimpleNamespace(
        error_file=str(tmp_path / "error.txt"), pickled_error_file=str(tmp_path / "error.pkl")
    )
    assert _cause(trial) == cause


# --- Settings drawn within a budget ---

RATES = [0.2, 1e4, 1e5, 1e6]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Four trials, one after the other; with all but one of the values nothing is learnt."""
    folder = tmp_path_factory.mktemp("drawn")
    return ask(
        folder / "search",
        search=write_searches(folder, lr_img=RATES),
        how=Drawing(budget="4"),
        **{**RUNS, "iterations": 9, "eval_epochs": 10, "lr_img": 0.2, "cpus_per_actor": 2},
    )


def test_a_budget_draws_so_many_trials_the_run_s_own_settings_first(drawn):
    results = drawn.results
    assert [result.folder for result in results] == [f"trials/trial-{n}" for n in range(4)]
    assert results[0].options == {"lr_img": 0.2}
    assert {result.options["lr_img"] for result in results} > {0.2}


def test_worse_trials_end_at_the_first_rung_and_the_others_at_their_last_iteration(drawn):
    for result in drawn.results:
        good = result.options["lr_img"] == 0.2
        assert (result.status, result.iterations) == (("done", 9) if good else ("stopped", 1))
    assert drawn.found.best[1].options == {"lr_img": 0.2}


def test_a_trial_s_copies_are_evaluated_before_it_goes_on(drawn):
    for result in drawn.results:
        lines = (drawn.folder / result.folder / "metrics.jsonl").read_text().splitlines()
        come_to = 0
        for line in map(json.loads, lines):
            if "matching_loss" in line:
                come_to = line["iteration"]
            elif line.get("subject") == "condensed":
                assert come_to <= line["iteration"]
        assert come_to == result.iterations


def test_drawn_trials_share_a_queue_that_is_asked_for_no_more_than_they_needed(drawn):
    served = sum(result.iterations for result in drawn.results)
    assert drawn.found.queues == (Counts(trained=9, served=served),)


def test_drawn_tiles_may_cut_the_classes_into_other_groups(tmp_path):
    # 5 groups without tiles, 10 with: more tiles than go through in one pass.
    groups = {"classes_per_group": "auto", "images_per_pass": 4, "actors": 2}
    asked = ask(
        tmp_path / "search",
        search=write_searches(tmp_path, partition=[2]),
        how=Drawing(budget="1", early_stopping="off"),
        **{**RUNS, **groups},
    )
    assert assert_like_plain_runs(asked, tmp_path, **groups) == 1


def test_what_trials_told_is_written_down_as_it_is_told(drawn):
    written = json.loads((drawn.folder / "trials.json").read_text())["trials"]
    for entry, result in zip(written, drawn.results, strict=True):
        assert entry["drawn"] == result.options
        assert (entry["status"], entry["folder"]) == (result.status, result.folder)
        rungs = [1, 3, 9] if result.status == "done" else [1]
        assert [report["iteration"] for report in entry["reports"]] == rungs
        assert tuple(entry["reports"][-1]["accuracies"]) == result.accuracies


@pytest.mark.slow
def test_drawing_goes_on_from_what_ended_trials_told_and_they_compute_nothing(drawn, tmp_path):
    folder = copy_of(drawn, tmp_path / "copy")
    place = folder / "trials.json"
    written = json.loads(place.read_text())
    place.write_text(json.dumps(written | {"trials": written["trials"][:3]}))
    shutil.rmtree(folder / "trials" / "trial-3")
    (folder / "summary.json").unlink()
    before = files_of(folder)
    again = drawn.again(folder)
    assert {name: time for name, time in files_of(folder).items() if name in before} == before
    assert again.results[:3] == drawn.results[:3]
    assert again.results[3].status in ("done", "stopped")
    (queue,) = again.found.queues
    assert queue.served == again.results[3].iterations
    assert (folder / "summary.json").exists()


def drawing(first, searcher="tpe"):
    """What would be drawn for the joint space after some settings that were tried earlier."""
    config, info = settled(iterations=9)
    base = Job(name="base", config=config, info=info, pixels=0, queue_key=None)
    space = SEARCHES["all"].distributions(config)
    draws = Draws(
        base=base,
        make=lambda number, drawn: base,
        space=space,
        first=first,
        searcher=searcher,
        stops=True,
        seed=0,
        trials=9,
        seconds=None,
    )
    search = draws.tuner_options()["search_alg"]
    found = [search.suggest(str(number)) for number in range(len(first) + 4)]
    assert [one.pop("job") for one in found] == list(range(len(found)))
    return space, found


@pytest.mark.parametrize("searcher", ["tpe", "random"])
def test_every_setting_that_is_drawn_is_in_its_space_and_makes_a_config(searcher):
    space, found = drawing([], searcher)
    for options in found:
        assert options.keys() == space.keys()
        assert {name: space[name].nearest(value) for name, value in options.items()} == options
        assert isinstance(options["train_steps"], int)
        RunConfig.from_flat({"lambda_reg": 0.1, **options})


@pytest.mark.parametrize("searcher", ["tpe", "random"])
def test_what_was_drawn_before_an_interruption_is_not_drawn_again_after_it(searcher):
    _, before = drawing([], searcher)
    _, after = drawing(before, searcher)
    assert after[:4] == before
    for options in after[4:]:
        assert options not in before


# --- Room ---


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"gpus_per_actor": 3}, "wanted 1 CPU and 6 GPU"),
        ({"cpus_per_actor": 5}, "wanted 5 CPU and 0 GPU"),
        # Together less than the four GPUs that there are, but each on one of its own.
        ({"actors": 4, "gpus_per_actor": 0.6, "classes_per_group": 2}, "GPU in 5 parts"),
    ],
    ids=["too many GPUs", "too many CPUs", "cannot be packed"],
)
def test_trials_that_never_have_room_are_refused_instead_of_waited_for(tmp_path, options, wanted):
    with pytest.raises(ResourceError) as refused:
        ask(
            tmp_path / "search",
            search=write_searches(tmp_path, train_steps=[1, 2]),
            how=Ablation(seeds=1),
            **{**RUNS, "wait_s": 1, **options},
        )
    assert wanted in str(refused.value)
    assert "it has 4 CPU and 4 GPU" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not list((tmp_path / "search").iterdir())


def test_the_example_of_the_docstring_holds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = complaints(tune)
    assert not told, told
