import pytest

from idm_ray.comparison.compare import make_request
from idm_ray.comparison.request import DECIDED, SHARED, Request, parse_overrides
from idm_ray.config import METHODS, option_names
from idm_ray.errors import UserError
from idm_ray.methods.catalog import find_method
from idm_ray.option_text import convert_text


def request(**fields):
    return Request(**{"methods": ("random", "idm")} | fields)


def refusal(**fields):
    with pytest.raises(UserError) as raised:
        request(**fields)
    return str(raised.value)


def test_every_option_is_shared_or_the_comparison_s_own():
    assert {*SHARED, *DECIDED} == set(option_names())
    assert not {*SHARED} & {*DECIDED}


def test_sets_come_row_by_row_with_consecutive_seeds():
    made = [(one.method, one.ipc, one.seed) for one in request(ipcs=(1, 10), seeds=2).sets()]
    assert made == [
        (method, ipc, seed) for method in ("random", "idm") for ipc in (1, 10) for seed in (0, 1)
    ]


def test_what_needs_no_network_is_made_once_whatever_networks_there_are():
    wide = request(methods=("random", "herding"), condense_networks=("auto", "vgg11"))
    assert [(one.method, one.network) for one in wide.sets()] == [
        ("random", "auto"),
        ("herding", "auto"),
        ("herding", "vgg11"),
    ]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_gets_of_the_shared_options_what_it_has(method):
    shared = {"iterations": 7, "lambda_reg": 0.5, "lr_net": 0.02, "size": 8, "local": True}
    (one,) = request(methods=(method,), options=shared).sets()
    assert set(one.options) == set(shared) - set(find_method(method).unused)
    run = one.run_options()
    assert (run["repeats"], run["baselines"], run["method"]) == (0, "off", method)
    assert "network" not in run


def test_the_more_special_override_wins():
    overrides = {"idm": {"iterations": 5, "lr_img": 0.1}, "idm:10": {"iterations": 3}}
    made = request(ipcs=(1, 10), options={"iterations": 9}, overrides=overrides).sets()
    idm = {one.ipc: dict(one.options) for one in made if one.method == "idm"}
    assert idm == {1: {"iterations": 5, "lr_img": 0.1}, 10: {"iterations": 3, "lr_img": 0.1}}


def test_a_method_may_have_seeds_of_its_own():
    made = list(request(seeds=1, overrides={"random": {"seeds": 3}}).sets())
    assert [(one.method, one.seed) for one in made] == [
        ("random", 0), ("random", 1), ("random", 2), ("idm", 0),
    ]  # fmt: skip
    assert all("seeds" not in one.options for one in made)


def test_the_whole_data_is_no_set():
    whole = request(methods=("whole", "idm"))
    assert whole.has_whole
    assert [one.method for one in whole.sets()] == ["idm"]
    assert not request().has_whole


def test_the_protocol_says_networks_and_epochs_unless_somebody_else_does():
    shared = {"data": "digits", "size": 8, "threads": 1, "lr_img": 1.0}
    assert request(protocol="dc", options=shared).evaluation() == {
        "size": 8,
        "threads": 1,
        "protocol": "dc",
        "repeats": 5,
        "eval_epochs": 300,
    }
    own = request(protocol="dc", eval_epochs=7).evaluation(2)
    assert (own["repeats"], own["eval_epochs"]) == (2, 7)


def test_an_override_for_all_comes_before_that_of_a_method_and_a_cell_before_a_row():
    overrides = {
        "all": {"iterations": 2, "repeats": 4},
        "all:10": {"repeats": 1, "lr_img": 0.1},
        "idm": {"iterations": 3},
        "idm:10": {"lr_img": 0.3},
    }
    made = list(request(methods=("random", "dm", "idm"), ipcs=(1, 10), overrides=overrides).sets())
    assert [(one.method, one.ipc, dict(one.options), one.repeats) for one in made] == [
        ("random", 1, {}, 4),
        ("random", 10, {}, 1),
        ("dm", 1, {"iterations": 2}, 4),
        ("dm", 10, {"iterations": 2, "lr_img": 0.1}, 1),
        ("idm", 1, {"iterations": 3}, 4),
        ("idm", 10, {"iterations": 3, "lr_img": 0.3}, 1),
    ]


def test_repeats_are_those_of_the_comparison_unless_overridden():
    made = request(repeats=2, overrides={"idm": {"repeats": 3}}).sets()
    assert [one.repeats for one in made] == [2, 3]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"methods": ("herdin",)}, "unknown method 'herdin'; did you mean 'herding'?"),
        ({"methods": ()}, "methods must be one or more, with commas between them, got 'none'"),
        ({"ipcs": ()}, "ipcs must be one or more, with commas between them, got 'none'"),
        ({"seeds": 2.5}, "seeds must be a whole number of at least 1, got 2.5"),
        ({"seeds": True}, "seeds must be a whole number of at least 1, got True"),
        ({"eval_epochs": "x"}, "eval_epochs must be a whole number of at least 1, got 'x'"),
        ({"methods": (3,)}, "a name must be text, got 3"),
        ({"protocol": 3}, "a name must be text, got 3"),
        (
            {"overrides": {"dm": {"iterations": 3}}},
            "override dm must be for a method of this comparison, random, idm; leave it out, or "
            "add the method",
        ),
        ({"protocol": "papr"}, "unknown protocol 'papr'; did you mean 'paper'?"),
        ({"ipcs": (0,)}, "ipc must be a whole number of at least 1, got 0"),
        ({"seeds": 0}, "seeds must be a whole number of at least 1, got 0"),
        ({"repeats": 0}, "repeats must be a whole number of at least 1, got 0"),
        ({"options": {"iteration": 1}}, "unknown option 'iteration'; did you mean 'iterations'?"),
        (
            {"overrides": {"idm:5": {}}},
            "override idm:5 must be for images per class of this comparison, 1; write idm for all "
            "of them",
        ),
        ({"overrides": {"idn": {}}}, "unknown method 'idn'; did you mean 'idm'?"),
        (
            {"overrides": {"random": {"lr_img": 1.0}}},
            "override random sets lr_img, which method random does not have; leave it out",
        ),
        (
            {"overrides": {"idm": {"seeds": 0}}},
            "idm.seeds must be a whole number of at least 1, got 0",
        ),
        (
            {"overrides": {"all:1": {"repeats": "x"}}},
            "all:1.repeats must be a whole number of at least 1, got 'x'",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(fields, message):
    assert refusal(**fields) == message


@pytest.mark.parametrize(
    "option",
    [
        *("size", "classes", "limit_per_class", "flips", "eval_epochs", "protocol"),
        *("lr_net", "batch_train", "threads", "precision"),
    ],
)
def test_an_override_changes_neither_images_nor_evaluation(option):
    assert refusal(overrides={"idm": {option: 1}}).startswith(f"unknown option {option!r}")


def test_overrides_are_read_as_they_are_written():
    written = ["idm:10.iterations=300", "idm.lr-img=0.5", "random.seeds=5", "dm.network-x=1"]
    assert parse_overrides(written[:3], convert_text) == {
        "idm:10": {"iterations": 300},
        "idm": {"lr_img": 0.5},
        "random": {"seeds": 5},
    }
    with pytest.raises(UserError, match="unknown option 'network_x'"):
        parse_overrides(written, convert_text)


@pytest.mark.parametrize("text", ["idm", "idm.iterations", "iterations=5", "=", ".=", "idm.=3"])
def test_anything_else_is_no_override(text):
    with pytest.raises(UserError, match=r"override must be METHOD\.OPTION=VALUE or"):
        parse_overrides([text], convert_text)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"ipcs": 1}, "ipcs must be a list, or a text with commas between them, got 1"),
        ({"ipcs": ["1"]}, "ipc must be a whole number of at least 1, got '1'"),
        ({"overrides": 3}, "overrides must be options by method, such as"),
        ({"overrides": {"idm": 3}}, "overrides must be options by method, such as"),
    ],
)
def test_what_python_is_given_is_checked(asked, message):
    with pytest.raises(UserError) as raised:
        make_request("idm", asked)
    assert str(raised.value).startswith(message)


def test_lists_may_be_texts_and_name_each_thing_once():
    made = make_request(["idm", "idm"], {"networks": "convnet-2, vgg11,", "ipcs": [1, 1]})
    assert (made.methods, made.networks, made.ipcs) == (("idm",), ("convnet-2", "vgg11"), (1,))


def test_one_mapping_is_taken_apart_into_what_is_asked_and_options_of_runs():
    made = make_request(" dm, idm,dm", {"ipcs": [1, 2], "protocol": "dc", "lr_img": 0.1})
    assert made == Request(
        methods=("dm", "idm"), ipcs=(1, 2), protocol="dc", options={"lr_img": 0.1}
    )
