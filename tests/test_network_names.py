import itertools
import json

import pytest

from idm_ray.building import can_be_matched, check_network
from idm_ray.config import RunConfig
from idm_ray.errors import UserError
from idm_ray.network_names import CHOICES, ConvNetDesign, one_name, parse_convnet
from tests.making_runs import command, plan_of, run


def test_a_depth_alone_is_the_paper_s_network():
    assert parse_convnet("convnet-3") == ConvNetDesign(depth=3)
    assert parse_convnet("convnet-3").is_plain
    plain = parse_convnet("convnet-12")
    assert (plain.depth, plain.width, plain.norm) == (12, 128, "instance")
    assert (plain.pooling, plain.activation) == ("avg", "relu")


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("convnet-3-w64", {"width": 64}),
        ("convnet-3-batch", {"norm": "batch"}),
        ("convnet-3-nonorm-nopool", {"norm": "nonorm", "pooling": "nopool"}),
        (
            "convnet-3-w256-layer-max-leakyrelu",
            {"width": 256, "norm": "layer", "pooling": "max", "activation": "leakyrelu"},
        ),
        ("convnet-3-group-sigmoid", {"norm": "group", "activation": "sigmoid"}),
    ],
)
def test_a_name_says_what_differs(name, changed):
    design = ConvNetDesign(depth=3, **changed)
    assert parse_convnet(name) == design
    assert design.name == one_name(name) == name
    assert not design.is_plain


def test_every_design_has_one_name_which_gives_it_again():
    names = set()
    for norm, pooling, activation in itertools.product(*CHOICES.values()):
        for width in (8, 128):
            design = ConvNetDesign(
                depth=2, width=width, norm=norm, pooling=pooling, activation=activation
            )
            assert parse_convnet(design.name) == design
            names.add(design.name)
    assert len(names) == 5 * 3 * 3 * 2


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("convnet-3-w128-instance-avg-relu", "convnet-3"),
        ("convnet-3-sigmoid-max-w64", "convnet-3-w64-max-sigmoid"),
        ("convnet-2-relu-batch", "convnet-2-batch"),
        ("resnet18-ap", "resnet18-ap"),
        ("torchvision/resnet50", "torchvision/resnet50"),
        ("auto", "auto"),
    ],
)
def test_equal_networks_have_one_name(written, name):
    assert one_name(written) == name
    assert one_name(name) == name


@pytest.mark.parametrize("name", ["convnet", "convnet-", "convnet-0", "convnet-3-", "convnet-3b"])
def test_what_has_no_depth_is_no_convnet(name):
    assert parse_convnet(name) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnet-3-maxx", "unknown part of network convnet-3-maxx: 'maxx'; did you mean 'max'?"),
        ("convnet-3-w64-Batch", "'Batch'; did you mean 'batch'?"),
        ("convnet-3-w0", "unknown part of network convnet-3-w0: 'w0'; known are: w64, instance, b"),
        ("convnet-3-max-avg", "expected one pooling in network convnet-3-max-avg, got two; leave"),
        ("convnet-3-w8-w16", "expected one width in network convnet-3-w8-w16, got two; leave one"),
        (
            "convnet-3-w6-group",
            "expected a width that 4 groups can share in network convnet-3-w6-group, got 6; use a "
            "multiple of 4",
        ),
    ],
)
def test_a_part_that_cannot_be_is_refused_before_any_data_are_read(name, message):
    for look in (parse_convnet, lambda name: RunConfig.from_flat({"network": name})):
        with pytest.raises(UserError) as raised:
            look(name)
        assert message in str(raised.value)


def test_only_batch_norm_cannot_be_matched():
    for words in itertools.product(*CHOICES.values()):
        assert can_be_matched(f"convnet-2-w8-{'-'.join(words)}") == ("batch" not in words)


def test_images_that_are_too_small_are_refused():
    check_network("convnet-3-max", (3, 8, 8), 10)
    for name in ("convnet-4-max", "convnet-4-nonorm", "convnet-4-batch", "convnet-4-w64"):
        with pytest.raises(ValueError, match="got 3x8x8: nothing would be left"):
            check_network(name, (3, 8, 8), 10)
    check_network("convnet-4-nopool", (3, 8, 8), 10)


def test_a_run_has_the_one_name():
    plan, _ = plan_of(network="convnet-2-max-w16-instance")
    assert plan.config.condense.network == "convnet-2-w16-max"
    assert plan_of(network="convnet-1-w128")[0].config.condense.network == "convnet-1"


def test_a_set_is_condensed_with_one_and_evaluated_with_others(tmp_path):
    found = run(tmp_path / "run", network="convnet-2-leakyrelu-w16-max", repeats=1)
    assert found.summary["evaluation"]["network"] == "convnet-2-w16-max-leakyrelu"
    others = ["convnet-1-w8-batch-nopool", "convnet-2-w8-nonorm-sigmoid"]
    told = command(
        *("evaluate", tmp_path / "run", "--data", "digits", "--local", "--device", "cpu"),
        *("--networks", ",".join(others), "--eval-epochs", "2", "--repeats", "1"),
        *("--json", tmp_path / "found.json"),
    )
    assert told.status == 0, told.err
    assert list(json.loads((tmp_path / "found.json").read_bytes())["networks"]) == others


def test_batch_norm_is_for_evaluation_alone(tmp_path):
    with pytest.raises(UserError, match="without batch norm to condense with, got convnet-2-batch"):
        run(tmp_path / "run", network="convnet-2-w128-batch")
