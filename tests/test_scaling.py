import dataclasses
import itertools

import pytest

from idm_ray.config import RunConfig
from idm_ray.layout import settle
from idm_ray.scaling import (
    ACTOR_CALL_S,
    DRIVER_CALL_S,
    STORE_S_PER_BYTE,
    Parts,
    best_trainers,
    iteration_time,
    parts_of,
    sent_bytes,
)

# Long iterations, one in each call.
PARTS = Parts(match_s=12.0, train_s=3.0, num_groups=6, num_models=4, snapshot_bytes=0)


def seconds(devices, trainers=1, **changed):
    return iteration_time(dataclasses.replace(PARTS, **changed), devices, trainers).seconds


def test_one_device_does_both_in_turn():
    assert seconds(1) == pytest.approx(12 + 3 + 2 * ACTOR_CALL_S)


def test_with_more_the_slower_side_sets_the_time():
    assert seconds(2) == pytest.approx(12 + ACTOR_CALL_S)
    assert seconds(4) == pytest.approx(12 / 3 + ACTOR_CALL_S)
    assert seconds(7) == pytest.approx(3 + ACTOR_CALL_S)
    assert iteration_time(PARTS, 4).bottleneck == "matching"
    assert iteration_time(PARTS, 7).bottleneck == "training"
    assert [iteration_time(PARTS, n).actors for n in (1, 2, 4, 9)] == [1, 1, 3, 6]


def test_groups_are_not_divided():
    # Of 6 groups, one of 4 actors still has 2; more devices than groups and trainers lie idle.
    assert seconds(5) == seconds(4)
    assert iteration_time(PARTS, 80) == iteration_time(PARTS, 7)
    assert seconds(8, train_s=0.0) == seconds(80, train_s=0.0) == pytest.approx(2 + ACTOR_CALL_S)


def test_trainers_share_the_training_up_to_one_for_each_network():
    assert iteration_time(PARTS, 10, 3).train_s == pytest.approx(1 + ACTOR_CALL_S)
    assert iteration_time(PARTS, 10, 4).train_s == iteration_time(PARTS, 10, 5).train_s


def test_the_driver_limits_iterations_of_nothing():
    nothing = dataclasses.replace(PARTS, match_s=0.0, train_s=0.0, num_groups=40)
    time = iteration_time(nothing, 33)
    assert time.bottleneck == "driver"
    assert time.seconds == pytest.approx(33 * DRIVER_CALL_S / 8)


def test_the_best_number_of_trainers_is_where_both_sides_meet():
    assert best_trainers(PARTS, 1) == best_trainers(PARTS, 2) == 1
    # 6 actors need 2 s each; 1 trainer needs 3, 2 need 1.5.
    assert best_trainers(PARTS, 8) == 2
    assert best_trainers(dataclasses.replace(PARTS, train_s=0.0), 8) == 1


@pytest.mark.parametrize("train_s", [0.0, 0.01, 1.0, 100.0])
@pytest.mark.parametrize("match_s", [1.0, 100.0])
def test_with_the_best_split_more_devices_are_never_slower(match_s, train_s):
    parts = dataclasses.replace(PARTS, match_s=match_s, train_s=train_s, num_groups=48)
    times = [iteration_time(parts, n, best_trainers(parts, n)).seconds for n in (1, 2, 4, 8, 16)]
    assert all(b <= a * 1.05 for a, b in itertools.pairwise(times))


def test_the_queue_puts_snapshots_into_the_store_however_many_train():
    large = dataclasses.replace(PARTS, snapshot_bytes=10**9)
    for trainers in (1, 4):
        more = iteration_time(large, 10, trainers).train_s
        less = iteration_time(PARTS, 10, trainers).train_s
        assert more - less == pytest.approx(10**9 * STORE_S_PER_BYTE)


def test_snapshots_go_once_to_every_other_node():
    assert [
        sent_bytes(dataclasses.replace(PARTS, snapshot_bytes=1000), nodes) for nodes in (1, 2, 9)
    ] == [0, 1000, 8000]


def test_the_parts_of_the_published_cifar10_run():
    config = RunConfig.from_flat(
        {
            "ipc": 10,
            "batch_real": 256,
            "lambda_reg": 0.5,
            "num_trained_models": 2,
            "train_steps": 10,
            "train_interval": 2,
        }
    )
    counts = (5000,) * 10
    config = settle(config, (3, 32, 32), 10)
    parts = parts_of(config, (3, 32, 32), counts, images_per_s=1000.0)
    tiles = 10 * 10 * config.condense.partition**2
    assert parts.match_s == pytest.approx((2560 + 3 * tiles) / 1000)
    assert parts.train_s == pytest.approx(3 * 10 * config.queue.batch_train / 1000)
    assert parts.num_groups == 5
    assert parts.snapshot_bytes == 4 * 320_010
    alone = parts_of(
        config.replace(queue_size=0, lambda_reg=0.0), (3, 32, 32), counts, images_per_s=1000.0
    )
    assert alone.train_s == 0
    assert alone.num_models == 1
