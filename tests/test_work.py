import pytest

from idm_ray.algorithm.model_queue import ModelQueue
from idm_ray.config import QueueConfig, RunConfig
from idm_ray.evaluation_jobs import all_jobs
from idm_ray.methods.catalog import find_method
from idm_ray.work import Lessons, count_trained, count_work, queue_length
from tests.making_runs import plan_of

# Of convnet-2 for 8x8 grey images and 10 classes: two convolutions, two norms, a head.
PARAMETERS = (9 * 128 + 128) + 256 + (9 * 128 * 128 + 128) + 256 + (512 * 10 + 10)


def work_of(**options):
    plan, _ = plan_of(**options)
    return count_work(plan, all_jobs(plan.config))


@pytest.mark.parametrize(
    "options",
    [
        {"push_interval": 3, "queue_size": 6, "queue_init": 2, "train_interval": 2},
        {"push_interval": 1, "queue_size": 2, "queue_init": 1, "num_trained_models": 5},
        {"push_interval": 50, "queue_size": 100, "queue_init": 1, "num_trained_models": 2},
        {"queue_size": 0},
    ],
)
def test_the_queue_is_counted_as_it_decides(options):
    config, iterations = QueueConfig(**options), 40
    queue = ModelQueue(config, num_matched_models=1, seed=0)
    trained = 0
    for iteration in range(iterations):
        trained += len(queue.plan(iteration).trained)
        if config.queue_size:
            assert queue_length(config, iteration) == len(queue.ids)
    assert count_trained(config, iterations) == trained


def test_an_iteration_is_counted_by_images():
    # 20 images of a class are there, 16 of them asked for.
    work = work_of(ipc=3, partition=2, iterations=5, num_matched_models=2)
    assert work.matched == (2 * 16, 2 * 12)
    assert (work.iterations, work.classes) == (5, 10)
    assert work.train_steps == 5 * 2 * 2
    flops = 5 * 10 * (32 * work.flops.forward + 24 * work.flops.match)
    assert work.condense_flops == flops + 20 * 32 * work.flops.train
    # Real images of a class come from the cache for each of the networks that are matched.
    assert work.condense_read_bytes == (5 * 10 * 32 + 20 * 32) * 64
    assert work_of(batch_real=100).matched[0] == 20


def test_pretraining_is_counted_apart():
    work = work_of(pretrained=3, pretrain_steps=5)
    plain = work_of()
    assert work.pretrain_flops == 3 * 5 * 32 * work.flops.train
    assert work.condense_flops == plain.condense_flops
    assert work.condense_read_bytes == plain.condense_read_bytes + 3 * 5 * 32 * 64
    assert work_of(pretrained=3).pretrain_steps == 7  # batches of 32 over 200 images
    assert plain.pretrain_flops == 0


def test_storage_is_counted_in_bytes():
    work = work_of(ipc=3, iterations=3)
    assert work.cache_bytes == (200 + 359) * 64
    # Three networks at the start and one pushed in the first iteration, then there are four.
    networks = 4 * 2 * PARAMETERS * 4
    assert work.checkpoint_bytes == 10 * 2 * 3 * 64 * 4 + networks
    fresh = work_of(queue_size=0, lambda_reg=0.0)
    assert fresh.checkpoint_bytes == 10 * 2 * 64 * 4


def test_evaluation_is_counted_by_networks_epochs_and_images():
    options = {"repeats": 2, "eval_epochs": 7, "whole_epochs": 3, "ipc": 4, "partition": 2}
    work = work_of(**options, eval_interval=2)
    assert work.subjects == (
        *["condensed"] * 2,  # after 2 of 3 iterations
        "whole",
        *["condensed"] * 2,
        *["start"] * 2,
        *["random"] * 2,
    )
    assert work.lessons["condensed"] == Lessons(epochs=7, images=160, steps=5)
    assert work.lessons["random"] == Lessons(epochs=7, images=40, steps=2)
    assert work.lessons["whole"] == Lessons(epochs=3, images=200, steps=7)
    trained = 6 * 7 * 160 + 2 * 7 * 40 + 3 * 200
    tested = 9 * 359
    assert work.evaluate_flops == trained * work.flops.train + tested * work.flops.forward
    assert work.evaluate_read_bytes == (3 * 200 + tested) * 64


def test_images_held_out_are_tested_on_instead_and_kept_in_the_cache_all_the_same():
    work = work_of(val_fraction=0.2, eval_split="validation", repeats=1)
    assert (work.test_images, work_of(val_fraction=0.2).test_images) == (40, 359)
    assert work.lessons["whole"].images == 160
    assert work.cache_bytes == (200 + 359) * 64


def test_networks_that_select_are_counted_on_the_images_that_they_are_tested_on():
    options = {"val_fraction": 0.2, "repeats": 2, "eval_interval": 1, "baselines": "off"}
    work = work_of(**options, select="validation")
    # Two copies and the last iterate; then one of them and the last.
    assert work.subjects == ("condensed",) * 2 * (3 + 2)
    tested = 2 * (3 * 40 + 2 * 359)
    assert len(work.subjects) * work.test_images == pytest.approx(tested, abs=5)


def test_no_evaluation_costs_nothing():
    work = work_of(repeats=0)
    assert (work.subjects, work.evaluate_flops, work.evaluate_read_bytes) == ((), 0, 0)


def test_a_published_run_is_counted_at_once():
    queue = RunConfig.from_flat({"iterations": 20_001, "push_interval": 30}).queue
    assert count_trained(queue, 20_001) == 2 * 20_001


def test_rounds_and_the_training_between_them_are_counted():
    # 30 synthetic images in batches of 16: two steps of 15 on average.
    options = {"method": "dsa", "partition": 1, "ipc": 3, "outer_rounds": 4, "inner_epochs": 5}
    work = work_of(batch_train=16, iterations=7, **options)
    assert work.matched == (4 * 16, 4 * 3)
    assert (work.rounds, work.second_order) == (4, True)
    assert (work.train_steps, work.batch_train) == (7 * 3 * 5 * 2, 15)
    matching = 64 * work.flops.train + 12 * work.flops.second_order
    training = 7 * 3 * 5 * 30 * work.flops.train
    assert work.condense_flops == 7 * 10 * matching + training
    assert work.condense_read_bytes == 7 * 10 * 64 * 64  # real images alone


def test_a_choice_is_counted_by_the_images_that_are_looked_at():
    own = dict(find_method("herding").settings({}))
    work = work_of(method="herding", batch_train=32, **own | {"pretrain_steps": 5})
    assert (work.iterations, work.train_steps, work.looked_at) == (0, 0, 200)
    assert work.condense_flops == 200 * work.flops.forward
    assert work.pretrain_flops == 5 * 32 * work.flops.train
    assert work.condense_read_bytes == (200 + 5 * 32) * 64
