import itertools
import subprocess
import sys

import pytest

from idm_ray.algorithm.expansion import tile_size
from idm_ray.config import RunConfig
from idm_ray.errors import UserError
from idm_ray.recipes import PUBLISHED, Facts
from idm_ray.searches.catalog import SEARCHES, listing
from idm_ray.searches.search import Choice, LogUniform, Uniform
from tests.searches.making import CIFAR100, DIGITS, config_of, labels

NAMES = [
    "lambda_reg",
    "train_steps",
    "queue_size",
    "partition",
    "push_interval",
    "train_interval",
    "lr_img",
    "accuracy_window",
    "components",
    "pretrain_epochs",
    "all",
]
GRIDS = NAMES[:-1]

# What each tries on digits in 40 iterations, and where its figure comes from.
TABLE = {
    "lambda_reg": ("0, 0.1, 0.25, 0.5, 1, 2.5", "Fig. 5"),
    "train_steps": ("1, 2, 5, 10, 20", "Fig. 6"),
    "queue_size": ("4, 6, 8, 11", "Fig. 7"),
    "partition": ("1, 2, 3", "Table 3"),
    "push_interval": ("1, 2, 5, 10, 20", ""),
    "train_interval": ("1, 2, 4, 10, 30", ""),
    "lr_img": ("0.01, 0.025, 0.05, 0.1, 0.25", ""),
    "accuracy_window": ("last, 4, 10, lifetime", ""),
    "components": ("DM, + model queue, + regularization, + partition", "Table 2"),
    "pretrain_epochs": (
        "random networks, 10 epochs, 20 epochs, 30 epochs, 40 epochs, 50 epochs, 60 epochs, "
        "model queue",
        "Fig. 3",
    ),
}


def published():
    for name, rows in PUBLISHED.items():
        size, counts = {
            "cifar10": (32, (5000,) * 10),
            "cifar100": (32, (500,) * 100),
            "tinyimagenet": (64, (500,) * 200),
            "imagenet_subset": (224, (1300,) * 100),
        }[name]
        facts = Facts(known_as=name, image_shape=(3, size, size), train_counts=counts)
        yield from (config_of(facts, ipc=ipc) for ipc in rows)


def some_configs():
    plain = [RunConfig(), config_of(), config_of(iterations=1), config_of(ipc=10, iterations=300)]
    odd = [
        config_of(lambda_reg=0.0),
        config_of(lambda_reg=0.0, queue_size=0),
        config_of(train_steps=1, push_interval=1, queue_init=1, queue_size=2),
        config_of(accuracy_window=7, train_interval=7, partition=4),
    ]
    return [*plain, *odd, *published()]


def test_the_searches_are_the_promised_ones():
    assert list(SEARCHES) == NAMES


def test_the_values_on_digits_in_40_iterations_are_these():
    listed = {row.name: (row.values, row.source) for row in listing(config_of(iterations=40))}
    assert {name: listed[name] for name in TABLE} == TABLE
    assert listed["all"][0].startswith("lr_img 0.005 to 0.5, log; momentum_img 0 to 0.9; ")


def test_the_grids_of_figures_5_to_7_hold_the_published_setting():
    config = config_of(CIFAR100, ipc=10)
    assert labels(SEARCHES["queue_size"].points(config)) == ["60", "80", "100", "120", "140"]
    assert labels(SEARCHES["train_steps"].points(config)) == ["5", "10", "25", "50", "100"]
    assert labels(SEARCHES["lambda_reg"].points(config)) == [
        "0",
        "0.02",
        "0.05",
        "0.1",
        "0.2",
        "0.5",
    ]


@pytest.mark.parametrize("name", GRIDS)
def test_every_grid_is_of_allowed_configs_with_labels_of_their_own(name):
    for config in some_configs():
        if not config.queue.queue_size and name == "lambda_reg":
            continue  # there is no weight to vary
        points = SEARCHES[name].points(config)
        assert len(set(labels(points))) == len(points) >= 1
        for point in points:
            assert set(SEARCHES[name].varies) <= {*point.options}
            assert isinstance(config.replace(**point.options), RunConfig)


@pytest.mark.parametrize("name", sorted({*GRIDS} - {"queue_size", "components", "pretrain_epochs"}))
def test_the_run_s_own_value_is_among_those_tried(name):
    for config in some_configs():
        if name == "lambda_reg" and not config.queue.queue_size:
            continue
        values = [point.options[name] for point in SEARCHES[name].points(config)]
        assert config.flat()[name] in values


def test_the_components_are_dm_and_then_idm_s_parts_one_by_one():
    config = config_of(CIFAR100, ipc=10)
    configs = [config.replace(**p.options) for p in SEARCHES["components"].points(config)]
    by_recipe = config_of(CIFAR100, ipc=10, method="dm")
    theirs, given = configs[0].flat(), by_recipe.flat()
    # What is left of IDM's settings has no networks to act on.
    queue = ("push_interval", "train_steps")
    assert {k: v for k, v in theirs.items() if k not in queue} == {
        k: v for k, v in given.items() if k not in queue
    }
    assert configs[-1] == config
    parts = [(c.queue.queue_size, c.condense.lambda_reg, c.condense.partition) for c in configs]
    assert parts == [(0, 0.0, 1), (100, 0.0, 1), (100, 0.1, 1), (100, 0.1, 2)]
    for before, after in itertools.pairwise(configs[1:]):
        one, other = before.flat(), after.flat()
        assert len([name for name in one if one[name] != other[name]]) == 1


def test_components_that_a_run_has_switched_off_are_switched_on():
    config = config_of(queue_size=0, lambda_reg=0.0)
    assert config.condense.partition == 1
    whole = config.replace(**SEARCHES["components"].points(config)[-1].options)
    assert (whole.queue.queue_size, whole.condense.lambda_reg) == (100, 0.5)
    assert whole.condense.partition == 2


def ends(distribution):
    if isinstance(distribution, Choice):
        return distribution.values
    assert isinstance(distribution, Uniform | LogUniform)
    assert distribution.low < distribution.high
    return distribution.low, distribution.high


def test_every_corner_of_the_joint_space_is_allowed():
    for config in some_configs():
        space = SEARCHES["all"].distributions(config)
        assert set(space) == set(SEARCHES["all"].varies)
        for option, distribution in space.items():
            if isinstance(distribution, LogUniform):
                assert distribution.low > 0
                assert distribution.is_whole == isinstance(config.flat()[option], int)
        for corner in (0, -1):
            config.replace(**{name: ends(found)[corner] for name, found in space.items()})


def test_tiles_of_digits_are_large_enough_for_all_that_is_tried():
    for value in SEARCHES["all"].distributions(config_of())["partition"].values:
        assert tile_size(min(DIGITS.image_shape[1:]), value) >= 2


def test_a_search_over_one_option_can_draw_from_its_grid():
    found = SEARCHES["queue_size"].distributions(config_of(iterations=40))
    assert found == {"queue_size": Choice(values=(4, 6, 8, 11))}
    assert SEARCHES["components"].distributions(config_of()) == {}


@pytest.mark.parametrize("name", sorted({*NAMES} - {"lr_img"}))
def test_what_dm_does_not_have_is_not_searched_with_dm(name):
    config = config_of(method="dm")
    for ask in (SEARCHES[name].points, SEARCHES[name].distributions):
        with pytest.raises(UserError, match=r"expected method idm, got dm.*leave out --method"):
            ask(config)


def test_dm_has_a_learning_rate_to_search():
    points = SEARCHES["lr_img"].points(config_of(method="dm"))
    assert labels(points) == ["0.2", "0.5", "1", "2", "5"]


def test_listing_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from idm_ray.config import RunConfig\n"
        "from idm_ray.searches.catalog import listing\n"
        "from idm_ray.searches.finding import find\n"
        "listing(RunConfig())\n"
        "print({'ray', 'torch', 'numpy', 'pyarrow', 'matplotlib', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
