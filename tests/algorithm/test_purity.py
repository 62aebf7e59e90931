"""The algorithm computes and does nothing else: no global randomness, no clock, no files."""

import ast
import random
from pathlib import Path

import numpy as np
import pytest
import torch

import idm_ray.algorithm
from idm_ray.algorithm.augment import OPERATIONS, augment, draw_per_image, draw_siamese
from idm_ray.algorithm.evaluate import TrainingImages, accuracy, fit
from idm_ray.algorithm.expansion import expand
from idm_ray.algorithm.model_server import ModelServer
from idm_ray.algorithm.networks import init_parameters
from idm_ray.algorithm.numerics import FlatNetwork, Numerics
from idm_ray.algorithm.protocols import named_protocol
from idm_ray.algorithm.randomness import generator
from idm_ray.algorithm.synthetic import start_from_noise, start_from_tiles
from idm_ray.building import build_network
from idm_ray.config import CondenseConfig, QueueConfig
from tests.algorithm.making import class_group, convnet, normal

MODULES = sorted(Path(idm_ray.algorithm.__file__).parent.glob("*.py"))
PURE = {"collections", "dataclasses", "functools", "itertools", "math", "re", "typing", "warnings"}
SHAPE = (1, 8, 8)
IMAGES = normal(8, *SHAPE, seed=3).float()
LABELS = torch.arange(8) % 2


def take(rows):
    return IMAGES[rows], LABELS[rows]


def train_and_match():
    """Two iterations of the queue and of the images."""

    def network():
        return build_network("convnet-1", SHAPE, 2)

    server = ModelServer(
        QueueConfig(train_steps=2),
        network(),
        Numerics(),
        lambda model, step: (IMAGES, LABELS),
        num_matched_models=1,
        seed=0,
    )
    group = class_group(
        CondenseConfig(),
        [0, 1],
        num_classes=2,
        operations=OPERATIONS,
        network=FlatNetwork(network(), Numerics()).freeze(),
        real_batches=lambda iteration, c: (IMAGES[c::2], torch.full((4,), 0.25)),
        start=torch.stack([start_from_tiles(IMAGES[c::2], 2) for c in range(2)]),
    )
    for iteration in range(2):
        group.run(iteration, [server.begin(iteration)])
        server.train(iteration)


def evaluate():
    protocol = named_protocol("paper", 5, lr_net=0.01, batch_train=3, operations=OPERATIONS)
    network = convnet(SHAPE, 2)
    forward = fit(network, TrainingImages(count=8, take=take), protocol, Numerics(), (0, "x"))
    accuracy(forward, [(IMAGES, LABELS)])


def draw():
    for operation in OPERATIONS:
        augment(IMAGES.unsqueeze(0), draw_siamese([operation], [generator(0)]))
        augment(IMAGES.unsqueeze(1), draw_per_image([operation], 8, generator(0)))
    expand(IMAGES, 2)
    start_from_noise(2, SHAPE, generator(0))
    init_parameters(convnet(SHAPE, 2), generator(0))


@pytest.mark.parametrize("work", [train_and_match, evaluate, draw])
def test_nothing_draws_from_global_random_state_or_changes_it(work):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    images = IMAGES.clone()
    work()
    assert torch.get_rng_state().equal(before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]
    assert IMAGES.equal(images)


def test_the_modules_are_found():
    assert len(MODULES) > 10


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_of_the_algorithm_imports_neither_files_nor_clock_nor_ray(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        for name in names:
            root = name.split(".")[0]
            ours = root == "idm_ray" and name.split(".")[1] in {
                "algorithm",
                "config",
                "errors",
                "keys",
                "native",
                "network_names",
                "pace",
            }
            assert ours or root in PURE | {"numpy", "torch"}, f"{path.name} imports {name}"
