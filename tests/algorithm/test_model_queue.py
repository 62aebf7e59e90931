import itertools
import random
from collections import Counter

import pytest
import torch

from idm_ray.algorithm.model_queue import IterationPlan, ModelQueue
from idm_ray.algorithm.randomness import generator
from idm_ray.config import QueueConfig
from tests import reference


def make_queue(num_matched_models=1, seed=0, **options):
    config = QueueConfig(**options)
    return ModelQueue(config, num_matched_models=num_matched_models, seed=seed)


def random_config(rng: random.Random) -> tuple[QueueConfig, int]:
    """Any queue, small ones more often, and how many of its models are matched."""
    queue_size = rng.choice([1, 2, 3, 5, 20])
    config = QueueConfig(
        queue_size=queue_size,
        queue_init=rng.randint(1, queue_size),
        push_interval=rng.choice([1, 2, 5, 30]),
        train_interval=rng.choice([1, 2, 3, 30]),
        num_trained_models=rng.choice([1, 2, 4]),
    )
    return config, rng.choice([1, 2])


def as_lists(plan: IterationPlan) -> dict[str, list[int]]:
    return {
        "popped": list(plan.popped),
        "pushed": list(plan.pushed),
        "matched": list(plan.matched),
        "trained": list(plan.trained),
    }


@pytest.mark.parametrize("seed", range(40))
def test_the_queue_does_what_a_plain_list_does(seed):
    config, num_matched = random_config(random.Random(seed))

    def shuffled(purpose, iteration, n):
        return torch.randperm(n, generator=generator(seed, purpose, iteration)).tolist()

    queue = ModelQueue(config, num_matched_models=num_matched, seed=seed)
    history = reference.queue_history(config, num_matched=num_matched, shuffled=shuffled)
    assert list(queue.ids) == list(range(config.queue_init))
    for iteration, expected in zip(range(100), history, strict=False):
        plan = queue.plan(iteration)
        assert {"queue": list(queue.ids), **as_lists(plan)} == expected


@pytest.mark.parametrize("seed", range(20))
def test_no_model_is_used_before_it_is_pushed_or_after_it_is_popped(seed):
    config, num_matched = random_config(random.Random(1000 + seed))
    queue = ModelQueue(config, num_matched_models=num_matched, seed=seed)
    alive = set(queue.ids)
    for iteration in range(60):
        plan = queue.plan(iteration)
        alive = (alive - set(plan.popped)) | set(plan.pushed)
        assert alive == set(queue.ids)
        assert set(plan.matched) | set(plan.trained) <= alive
        assert len(alive) <= config.queue_size
        assert len(set(plan.matched)) == len(plan.matched) == min(num_matched, len(alive))
        trains = iteration % config.train_interval == 0
        wanted = min(config.num_trained_models, len(alive)) if trains else 0
        assert len(set(plan.trained)) == len(plan.trained) == wanted


def test_the_queue_starts_with_three_models_and_one_more_is_pushed_at_iteration_0():
    queue = make_queue()
    assert queue.ids == (0, 1, 2)
    assert queue.plan(0).pushed == (3,)
    assert queue.ids == (0, 1, 2, 3)


def test_pushing_a_full_queue_pops_the_oldest_model():
    queue = make_queue(queue_size=3, push_interval=2)
    plans = [queue.plan(i) for i in range(5)]
    assert [plan.pushed for plan in plans] == [(3,), (), (4,), (), (5,)]
    assert [plan.popped for plan in plans] == [(0,), (), (1,), (), (2,)]
    assert queue.ids == (3, 4, 5)


def test_a_new_model_may_be_matched_in_the_iteration_that_pushes_it():
    # Push comes first: a queue of one model always matches the one just pushed.
    queue = make_queue(queue_size=1, queue_init=1, push_interval=1)
    for iteration in range(5):
        plan = queue.plan(iteration)
        assert plan.matched == plan.pushed == plan.trained == (iteration + 1,)


def test_with_the_text_s_intervals_nothing_happens_between_iterations_30_apart():
    queue = make_queue(push_interval=30, train_interval=30, num_trained_models=1)
    plans = [queue.plan(i) for i in range(91)]
    assert [i for i, plan in enumerate(plans) if plan.pushed] == [0, 30, 60, 90]
    assert [i for i, plan in enumerate(plans) if plan.trained] == [0, 30, 60, 90]
    assert {len(plan.trained) for plan in plans} == {0, 1}
    assert all(len(plan.matched) == 1 for plan in plans)


def test_more_models_than_there_are_means_all_of_them():
    queue = make_queue(
        queue_size=2, queue_init=1, push_interval=30, num_trained_models=5, num_matched_models=7
    )
    plan = queue.plan(0)
    assert sorted(plan.matched) == sorted(plan.trained) == [0, 1]


def test_a_queue_of_size_0_gives_fresh_models_every_iteration_and_trains_none():
    queue = make_queue(queue_size=0, num_matched_models=2)
    assert queue.ids == ()
    previous = ()
    for iteration in range(4):
        plan = queue.plan(iteration)
        fresh = (2 * iteration, 2 * iteration + 1)
        assert plan == IterationPlan(popped=previous, pushed=fresh, matched=fresh, trained=())
        assert queue.ids == fresh
        previous = fresh


def test_every_model_is_matched_and_trained_equally_often():
    queue = make_queue(queue_size=5, queue_init=5, push_interval=10**6)
    plans = [queue.plan(i) for i in range(1, 3001)]
    matched = Counter(itertools.chain.from_iterable(plan.matched for plan in plans))
    trained = Counter(itertools.chain.from_iterable(plan.trained for plan in plans))
    assert all(abs(matched[model] - 600) < 90 for model in queue.ids)
    assert all(abs(trained[model] - 1200) < 110 for model in queue.ids)
    # Drawn apart from each other: the matched model is among the two trained in 2 of 5 cases.
    both = sum(plan.matched[0] in plan.trained for plan in plans)
    assert abs(both - 1200) < 110


def test_what_is_matched_does_not_depend_on_how_many_are_trained():
    few, many = make_queue(num_trained_models=1), make_queue(num_trained_models=3)
    for iteration in range(50):
        one, other = few.plan(iteration), many.plan(iteration)
        assert one.matched == other.matched
        assert one.trained == other.trained[:1]


def test_seeds_give_different_sequences():
    first, second = make_queue(seed=1), make_queue(seed=2)
    plans = [(first.plan(i), second.plan(i)) for i in range(30)]
    assert any(a != b for a, b in plans)


@pytest.mark.parametrize("queue_size", [0, 1, 4, 20])
def test_a_restored_queue_continues_as_if_nothing_had_happened(queue_size):
    options = {"queue_size": queue_size, "queue_init": 1, "push_interval": 3}
    queue = make_queue(num_matched_models=2, **options)
    for iteration in range(17):
        queue.plan(iteration)
    restored = make_queue(num_matched_models=2, **options)
    restored.restore(queue.ids, queue.next_id)
    expected = [queue.plan(i) for i in range(17, 60)]
    assert [restored.plan(i) for i in range(17, 60)] == expected


def test_a_look_ahead_changes_nothing():
    queue, untouched = make_queue(), make_queue()
    for iteration in range(40):
        ahead = queue.peek(iteration)
        assert ahead == queue.plan(iteration) == untouched.plan(iteration)
