import dataclasses

import pytest
import torch

from idm_ray.building import build_network
from idm_ray.config import MachineConfig, RunConfig
from idm_ray.layout import crew_of_one, cut_groups, settle
from idm_ray.scaling import (
    ACTOR_CALL_S,
    DRIVER_CALL_S,
    H100,
    STORE_S_PER_BYTE,
    Gpu,
    Parts,
    best_trainers,
    class_seconds,
    conv_outputs,
    crew_on,
    crew_with_trainers,
    iteration_time,
    step_seconds,
)

# Long iterations, one in each call: 6 groups of one class, 12 s of matching in all.
PARTS = Parts(class_s=2.0, train_s=3.0, num_models=4, snapshot_bytes=0)
GROUPS = cut_groups(6, 1)


def time(devices, trainers=1, groups=GROUPS, **changed):
    crew = crew_with_trainers(groups, devices, trainers)
    return iteration_time(dataclasses.replace(PARTS, **changed), crew)


def test_one_device_does_both_in_turn():
    assert time(1).seconds == pytest.approx(12 + 3 + 2 * ACTOR_CALL_S)
    assert time(1).bottleneck == "devices"


def test_a_process_alone_pays_for_no_calls():
    alone = iteration_time(PARTS, crew_of_one(6, gpus=1))
    assert (alone.seconds, alone.driver_s) == (12 + 3, 0)


def test_with_more_the_slower_side_sets_the_time():
    assert time(2).seconds == pytest.approx(12 + ACTOR_CALL_S)
    assert time(4).seconds == pytest.approx(12 / 3 + ACTOR_CALL_S)
    assert time(7).seconds == pytest.approx(3 + ACTOR_CALL_S)
    assert time(4).bottleneck == "matching"
    assert time(7).bottleneck == "training"


def test_where_classes_meet_nobody_computes_beside_the_training():
    found = time(4, rounds=3)
    call_s = 2 * 3 * ACTOR_CALL_S
    assert found.seconds == pytest.approx(12 / 3 + 3 + 2 * call_s)
    assert found.driver_s == pytest.approx(2 * 3 * 4 * DRIVER_CALL_S)
    assert time(12, rounds=3).seconds > 3
    assert best_trainers(dataclasses.replace(PARTS, rounds=3, num_models=0), GROUPS, 8) == 1


def test_groups_are_not_divided():
    # Of 6 groups, one of 4 actors still has 2; more devices than groups and trainers lie idle.
    assert time(5).seconds == time(4).seconds
    assert time(80).seconds == time(7).seconds
    assert time(80, train_s=0.0).seconds == pytest.approx(2 + ACTOR_CALL_S)


def test_trainers_share_the_training_up_to_one_for_each_network():
    assert time(10, 3).train_s == pytest.approx(1 + ACTOR_CALL_S)
    assert time(10, 4).train_s == time(10, 5).train_s


def test_the_driver_limits_iterations_of_nothing():
    found = time(33, groups=cut_groups(40, 1), class_s=0.0, train_s=0.0)
    assert found.bottleneck == "driver"
    assert found.seconds == pytest.approx(33 * DRIVER_CALL_S / 8)


def test_snapshots_cost_the_queue_time_in_the_store():
    found = time(4, snapshot_bytes=10**9)
    assert found.train_s == pytest.approx(3 + ACTOR_CALL_S + STORE_S_PER_BYTE * 1e9)


def test_the_best_number_of_trainers_is_where_both_sides_meet():
    assert best_trainers(PARTS, GROUPS, 1) == best_trainers(PARTS, GROUPS, 2) == 1
    # 6 actors need 2 s each; 1 trainer needs 3, 2 need 1.5.
    assert best_trainers(PARTS, GROUPS, 8) == 2
    assert best_trainers(dataclasses.replace(PARTS, train_s=0.0), GROUPS, 8) == 1


@pytest.mark.parametrize("train_s", [0.0, 0.01, 1.0, 100.0])
@pytest.mark.parametrize("class_s", [0.02, 2.0])
def test_with_the_best_split_more_devices_are_never_slower(class_s, train_s):
    parts = dataclasses.replace(PARTS, class_s=class_s, train_s=train_s)
    groups = cut_groups(48, 1)
    seconds = [
        time(n, best_trainers(parts, groups, n), groups, class_s=class_s, train_s=train_s).seconds
        for n in (1, 2, 4, 8, 16)
    ]
    assert seconds == sorted(seconds, reverse=True)


def test_processes_that_share_a_gpu_take_turns():
    crew = crew_on(MachineConfig(actors=3), GROUPS, 2)
    assert (len(crew.shares), crew.at_once, crew.gpus) == (4, 2, 2)
    assert iteration_time(PARTS, crew).seconds == pytest.approx((15 + 4 * ACTOR_CALL_S) / 2)


@pytest.mark.parametrize(
    ("network", "shape", "outputs"),
    [
        # 128 channels of each block's map, which halves from one block to the next.
        ("convnet-3", (3, 32, 32), 128 * (32**2 + 16**2 + 8**2)),
        ("convnet-3", (1, 28, 28), 128 * (32**2 + 16**2 + 8**2)),  # padded
        ("convnet-6", (3, 224, 224), 8_561_280),
    ],
)
def test_outputs_of_convolutions_are_counted_from_the_shape(network, shape, outputs):
    assert conv_outputs(build_network(network, shape, 10), shape) == outputs


def test_counting_outputs_allocates_nothing():
    network = build_network("convnet-3", (3, 32, 32), 10)
    conv_outputs(network, (3, 32, 32))
    assert {parameter.device for parameter in network.parameters()} == {torch.device("meta")}


def test_a_gpu_waits_for_its_memory_and_for_its_orders():
    gpu = Gpu(name="", bytes_per_s=1000.0, element_bytes=4, pass_s=0.5, compile_s=0.0)
    # 100 outputs are moved 3.25 times in 4 bytes each; a backward pass costs two more.
    assert gpu.seconds(100, passes=2) == pytest.approx(1.3 + 2 * 0.5)
    assert gpu.training_s(100, passes=2) == pytest.approx(3 * (1.3 + 2 * 0.5))


def test_the_parts_of_the_published_cifar10_run():
    config = RunConfig.from_flat({"ipc": 10, "batch_real": 256, "lambda_reg": 0.5})
    config = settle(config, (3, 32, 32), 10)
    forward_s, pass_s = 3.25 * 2 * 172_032 / 3.35e12, 0.25e-3
    found = class_seconds(H100, config, outputs=172_032, real_images=256)
    # A pass of real images; 40 tiles with their gradient, in one pass for two classes.
    assert config.condense.classes_per_group == 2
    assert found == pytest.approx(256 * forward_s + pass_s + 3 * (40 * forward_s + pass_s / 2))
    found = step_seconds(H100, config, outputs=172_032, batch=256)
    assert found == pytest.approx(3 * (256 * forward_s + pass_s))
    # What is more than one pass at a time is launched in parts.
    small = config.replace(images_per_pass=100)
    more_s = class_seconds(H100, small, outputs=172_032, real_images=256) - 2 * pass_s
    assert more_s == pytest.approx(class_seconds(H100, config, outputs=172_032, real_images=256))
