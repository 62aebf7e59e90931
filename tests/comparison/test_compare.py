"""Whole comparisons, in this process."""

import json
import os

import pytest

import idm_ray
from idm_ray.errors import UserError
from idm_ray.execution import Started
from tests.making_runs import TINY, as_words, command

RUNS = {name: value for name, value in TINY.items() if name != "repeats"}
ASKED = {"methods": "random,idm", "repeats": 2, **RUNS}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "comparing"))


class Watch:
    """What a comparison begins: networks to train, iterations."""

    def __init__(self):
        self.started = []

    def __call__(self, event):
        if isinstance(event, Started):
            self.started.append((event.what, event.total))


def compare(folder, listener=lambda event: None, **changes):
    return idm_ray.compare(out=folder, listener=listener, **{**ASKED, **changes})


def test_each_cell_is_a_run_and_its_networks_as_evaluate_gives_them(tmp_path):
    found = compare(tmp_path / "c", ipcs=[1, 2])
    assert [(cell.method, cell.ipc) for cell in found.cells] == [
        ("random", 1), ("random", 2), ("idm", 1), ("idm", 2),
    ]  # fmt: skip
    for cell in found.cells:
        (made,) = cell.made.values()
        set_folder = tmp_path / "c" / made.folder
        evaluation = idm_ray.evaluate(
            set_folder, data="digits", limit_per_class=20, repeats=2, eval_epochs=2,
            local=True, device="cpu", threads=1,
        )  # fmt: skip
        (result,) = evaluation.networks.values()
        assert list(cell.accuracies[0]) == result["accuracies"]
        assert cell.ratio == pytest.approx(cell.ipc * 10 / 200)
        assert cell.evaluate_seconds > 0


def test_a_set_is_that_of_a_run_of_its_own(tmp_path):
    compare(tmp_path / "c", methods="idm")
    alone = idm_ray.condense(out=tmp_path / "alone", **{**TINY, "baselines": "off"})
    ours = idm_ray.load(tmp_path / "c" / "sets" / "idm-ipc1-convnet-2-seed0")
    assert ours.images.equal(idm_ray.load(alone.folder).images)


def test_nothing_is_computed_twice(tmp_path):
    compare(tmp_path / "c")
    before = (tmp_path / "c" / "results.csv").read_text()
    watch = Watch()
    compare(tmp_path / "c", watch)
    assert watch.started == []
    assert (tmp_path / "c" / "results.csv").read_text() == before


def test_asking_for_more_adds_to_the_table_and_leaves_the_rest(tmp_path):
    first = compare(tmp_path / "c", methods="random")
    watch = Watch()
    more = compare(tmp_path / "c", watch, methods="random,dm", repeats=3)
    done = [one for one in watch.started if one[1]]
    assert done == [("evaluate", 1), ("condense", 3), ("evaluate", 3)]
    assert more.cells[0].accuracies[0][:2] == first.cells[0].accuracies[0]


def test_another_protocol_trains_other_networks_on_the_same_sets(tmp_path):
    paper = compare(tmp_path / "c", methods="idm")
    watch = Watch()
    dc = compare(tmp_path / "c", watch, methods="idm", protocol="dc")
    assert watch.started == [("evaluate", 2)]
    assert dc.cells[0].protocol == "dc"
    assert dc.cells[0].made == paper.cells[0].made
    # Without augmentation the same networks see other images.
    assert dc.cells[0].accuracies != paper.cells[0].accuracies


def test_an_interrupted_comparison_goes_on_with_the_next_network(tmp_path):
    undisturbed = compare(tmp_path / "u")

    def interrupt(event):
        if getattr(event, "job", None) and event.job.repeat == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path / "c", interrupt)
    written = json.loads((tmp_path / "c" / "results.json").read_text())
    assert [len(cell["seeds"]) for cell in written["cells"]] == [1, 0]
    assert [cell["mean"] for cell in written["cells"]] == [None, None]
    again = compare(tmp_path / "c")
    assert [c.accuracies for c in again.cells] == [c.accuracies for c in undisturbed.cells]


def test_seeds_differ_in_sets_and_in_networks(tmp_path):
    (cell,) = compare(tmp_path / "c", methods="random", seeds=2).cells
    assert cell.accuracies.keys() == {0, 1}
    assert cell.accuracies[0] != cell.accuracies[1]
    assert len(cell.made) == 2


def test_every_set_is_evaluated_on_every_network(tmp_path):
    found = compare(tmp_path / "c", networks=["convnet-1", "convnet-2"], repeats=1)
    assert [(cell.method, cell.evaluated_on) for cell in found.cells] == [
        (method, network) for method in ("random", "idm") for network in ("convnet-1", "convnet-2")
    ]
    assert all(len(cell.all_accuracies) == 1 for cell in found.cells)
    assert [cell.network for cell in found.cells] == [None, None, "convnet-2", "convnet-2"]


def test_sets_are_condensed_with_every_network(tmp_path):
    found = compare(
        tmp_path / "c", methods="idm", condense_networks=["convnet-1", "convnet-2"],
        networks=["convnet-2"], repeats=1,
    )  # fmt: skip
    assert [cell.network for cell in found.cells] == ["convnet-1", "convnet-2"]
    assert found.cells[0].accuracies != found.cells[1].accuracies


def test_the_whole_data_trains_one_network(tmp_path):
    found = compare(tmp_path / "c", methods="whole", whole_epochs=2)
    (cell,) = found.cells
    assert (cell.method, cell.ratio, cell.epochs, len(cell.all_accuracies)) == ("whole", 1.0, 2, 1)
    beside = idm_ray.condense(
        out=tmp_path / "run", **{**TINY, "repeats": 1, "whole_epochs": 2, "baselines": "off"}
    )
    assert beside.summary["whole"]["mean"] == cell.mean


def test_the_whole_data_is_trained_as_the_data_say_whatever_rows_there_are(tmp_path):
    alone = compare(tmp_path / "a", methods="whole", whole_epochs=1)
    beside = compare(
        tmp_path / "b", methods="idm,whole", whole_epochs=1, overrides={"idm": {"iterations": 1}}
    )
    assert beside.cells[-1].accuracies == alone.cells[0].accuracies


def test_the_whole_data_has_every_column(tmp_path):
    found = compare(
        tmp_path / "c", methods="idm,random,whole", condense_networks=["convnet-1", "convnet-2"],
        repeats=1, whole_epochs=1,
    )  # fmt: skip
    places = [(cell.method, cell.network, cell.evaluated_on) for cell in found.cells]
    assert places == [
        ("idm", "convnet-1", "convnet-1"),
        ("idm", "convnet-2", "convnet-2"),
        ("random", None, "convnet-1"),
        ("random", None, "convnet-2"),
        ("whole", None, "convnet-1"),
        ("whole", None, "convnet-2"),
    ]
    assert all(cell.all_accuracies for cell in found.cells)
    assert len(list((tmp_path / "c" / "sets").iterdir())) == 3


def test_one_network_under_two_names_is_one(tmp_path):
    found = compare(
        tmp_path / "c", methods="idm", condense_networks=["auto", "convnet-2", "convnet-2-w128"]
    )
    (cell,) = found.cells
    assert (cell.network, len(cell.all_accuracies)) == ("convnet-2", 2)


def test_requests_in_one_folder_add_up_in_its_files(tmp_path):
    compare(tmp_path / "c", methods="random", seeds=2)
    compare(tmp_path / "c", methods="idm", protocol="dc")
    compare(tmp_path / "c", methods="random", repeats=1)
    told = json.loads((tmp_path / "c" / "results.json").read_text())["cells"]
    assert [(one["method"], one["protocol"], one["repeats"]) for one in told] == [
        ("random", "paper", 4), ("idm", "dc", 2),
    ]  # fmt: skip
    table = (tmp_path / "c" / "table.md").read_text()
    assert table.index("protocol paper") < table.index("protocol dc")


def test_an_interruption_leaves_what_is_known_in_the_table(tmp_path):
    compare(tmp_path / "c", methods="random")

    def interrupt(event):
        if isinstance(event, Started):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path / "c", interrupt, methods="idm,random")
    told = json.loads((tmp_path / "c" / "results.json").read_text())["cells"]
    assert {one["method"]: one["repeats"] for one in told} == {"random": 2, "idm": 0}


@pytest.mark.parametrize(
    ("option", "value"),
    [("lr_net", 0.5), ("batch_train", 16), ("flips", "on"), ("precision", "bfloat16")],
)
def test_no_figure_of_other_settings_is_taken_for_one_of_these(option, value, tmp_path):
    compare(tmp_path / "c", methods="whole", whole_epochs=1, precision="float32")
    changed = {"precision": "float32", option: value}
    with pytest.raises(UserError, match=rf"has other settings: {option} .* there, {value} now"):
        compare(tmp_path / "c", methods="whole", whole_epochs=1, **changed)


def test_two_processes_do_not_write_to_one_folder(tmp_path):
    def second(event):
        if isinstance(event, Started):
            with pytest.raises(UserError, match="another process is writing to"):
                compare(tmp_path / "c", methods="dm")
            told.append(event)

    told = []
    compare(tmp_path / "c", second, methods="random", repeats=1)
    assert told


@pytest.mark.parametrize("name", ["results.json", "table.md"])
def test_files_of_something_else_are_left_alone(name, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"found {name} of something else in"):
        compare(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(
    "content", ["x", "a: [", "data: 3", "{data: a, fingerprint: b, shared: {}}"]
)
def test_a_damaged_record_of_the_comparison_is_told_in_a_line(content, tmp_path):
    (tmp_path / "comparison.yaml").write_text(content)
    with pytest.raises(UserError, match="expected what a comparison is of in"):
        compare(tmp_path)


def test_a_run_s_config_gives_the_options_that_runs_share(tmp_path):
    alone = idm_ray.condense(out=tmp_path / "run", **TINY)
    outcome = command(
        "compare", "--methods", "idm", "--config", alone.folder / "config.yaml",
        "--repeats", 1, "--eval-epochs", 2, "--out", tmp_path / "c",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    ours = idm_ray.load(tmp_path / "c" / "sets" / "idm-ipc1-convnet-2-seed0")
    assert ours.images.equal(idm_ray.load(alone.folder).images)


def test_no_methods_are_refused_in_a_line():
    outcome = command("compare", "--methods", "")
    assert outcome.status == 2
    assert "methods must be one or more" in outcome.err


def test_sets_of_other_settings_are_refused_with_the_difference_before_any_work(tmp_path):
    compare(tmp_path / "c")
    watch = Watch()
    with pytest.raises(UserError) as raised:
        compare(tmp_path / "c", watch, iterations=4, ipcs=[2, 1])
    assert str(raised.value) == (
        f"the comparison in {tmp_path / 'c'} has a set idm-ipc1-convnet-2-seed0 of other settings: "
        "iterations 3 there, 4 now; ask for those, or choose another --out"
    )
    assert watch.started == []


def test_other_images_are_refused(tmp_path):
    compare(tmp_path / "c", methods="random", repeats=1)
    with pytest.raises(UserError, match=r"is of other images: digits .* there, digits .* now"):
        compare(tmp_path / "c", methods="random", limit_per_class=19)


def test_a_folder_of_a_run_is_refused(tmp_path):
    idm_ray.condense(out=tmp_path / "run", **TINY)
    with pytest.raises(UserError, match="expected a folder for a comparison, found a run in"):
        compare(tmp_path / "run")


def test_a_network_that_cannot_take_the_images_is_refused_before_any_work(tmp_path):
    with pytest.raises(UserError, match="expected images large enough for this network"):
        compare(tmp_path / "c", networks=["convnet-1", "resnet18"])
    assert not (tmp_path / "c").exists()


def test_a_set_that_diverges_leaves_its_cell_empty_and_the_others_alone(tmp_path):
    found = compare(tmp_path / "c", overrides={"idm": {"lr_img": 1e30}})
    random, idm = found.cells
    assert len(random.all_accuracies) == 2
    assert idm.mean is None
    assert idm.failed.keys() == {0}
    told = json.loads((tmp_path / "c" / "results.json").read_text())["cells"][1]
    assert told["failed"] == {"0": idm.failed[0]}


def test_the_command_prints_the_table_and_leaves_the_files(tmp_path):
    words = [
        *("compare", "--methods", "random,idm", "--ipc", "1,2", "--repeats", "1"),
        *("--override", "idm:2.iterations=2", "--out", str(tmp_path / "c")),
    ]
    outcome = command(*words, *as_words(**RUNS))
    assert outcome.status == 0
    assert "IDM" in outcome.out and "2 per class, 10 %" in outcome.out
    assert {"results.json", "results.csv", "table.md", "table.tex"} <= set(
        os.listdir(tmp_path / "c")
    )
    summary = json.loads((tmp_path / "c/sets/idm-ipc2-convnet-2-seed0/summary.json").read_text())
    assert summary["iterations"] == 2
