import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from idm_ray.algorithm.model_start import draw_start
from idm_ray.errors import DataError
from idm_ray.real_images import DataReport, RealImages, check_data
from idm_ray.sharding import write_shards
from tests.data.making import images_of
from tests.making_runs import plan_of, write_pictures

UNEQUAL = {"ant": 4, "bee": 15, "cat": 8}  # and 3, 12, 6 of them are training images


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return str(write_pictures(tmp_path_factory.mktemp("pictures") / "pictures", UNEQUAL))


@pytest.fixture(scope="module")
def plan():
    return plan_of(classes_per_group=3)[0]


def normalised(dataset, rows):
    mean, std = (np.float32(v).reshape(-1, 1, 1) for v in (dataset.info.mean, dataset.info.std))
    return (np.float32(images_of(dataset.train, rows)) / 255 - mean) / std


def close(tensor, array):
    return np.allclose(tensor.numpy(), array, atol=1e-5)


def test_other_data_than_the_plan_s_are_refused_with_the_remedy(plan):
    other = dataclasses.replace(plan.info, fingerprint="0" * 64)
    with pytest.raises(DataError, match=r"data 'digits' is not the same on node .*found [0-9a-f]"):
        check_data(plan.config, other)
    with pytest.raises(DataError, match="put the same files under this path on every node"):
        RealImages(dataclasses.replace(plan, info=other))
    assert check_data(plan.config, plan.info).info == plan.info


def test_a_class_larger_than_the_batch_gives_another_part_of_itself_each_iteration(plan):
    real, (_, dataset) = RealImages(plan), plan_of()
    own = normalised(dataset, list(dataset.train.class_rows(4)))
    batches = [real.matching_batch(iteration, 4) for iteration in (0, 0, 1)]
    for images, weights in batches:
        assert images.shape == (16, 1, 8, 8)
        assert weights.tolist() == [1 / 16] * 16
        matches = np.isclose(images.numpy()[:, None], own, atol=1e-5).all(axis=(2, 3, 4))
        assert matches.any(axis=1).all()
    assert batches[0][0].equal(batches[1][0])
    assert not batches[0][0].equal(batches[2][0])


@pytest.mark.parametrize(
    ("batch_real", "size", "sizes"), [(5, 5, (3, 5, 5)), (1000, 12, (3, 12, 6))]
)
def test_batches_of_unequal_classes_are_filled_up_with_images_of_no_weight(
    pictures, batch_real, size, sizes
):
    plan, dataset = plan_of(data=pictures, limit_per_class=None, batch_real=batch_real)
    assert plan.info.train_counts == (3, 12, 6)
    real = RealImages(plan)
    for label, count in enumerate(sizes):
        images, weights = real.matching_batch(0, label)
        assert images.shape == (size, 3, 8, 8)
        assert weights.shape == (size,)
        assert weights[:count].tolist() == [pytest.approx(1 / count)] * count
        assert weights[count:].tolist() == [0] * (size - count)
    images, weights = real.matching_batch(0, 0)
    mean = (images * weights.reshape(-1, 1, 1, 1)).sum(dim=0)
    assert close(mean, normalised(dataset, list(dataset.train.class_rows(0))).mean(axis=0))


def test_test_batches_are_all_test_images_or_those_of_some_classes():
    plan, dataset = plan_of(images_per_pass=50)
    labels = dataset.test.labels
    plan = dataclasses.replace(
        plan, numerics=dataclasses.replace(plan.numerics, images_per_pass=50)
    )
    mean, std = (np.float32(v).reshape(-1, 1, 1) for v in (dataset.info.mean, dataset.info.std))
    pixels = (np.float32(images_of(dataset.test)) / 255 - mean) / std
    for classes, rows in (
        (None, np.arange(len(labels))),
        ((7, 2), np.flatnonzero((labels == 2) | (labels == 7))),
    ):
        with RealImages(plan) as real:
            batches = list(real.test_batches(classes))
        assert {len(images) for images, _ in batches[:-1]} == {50}
        assert torch.cat([found for _, found in batches]).tolist() == labels[rows].tolist()
        assert close(torch.cat([images for images, _ in batches]), pixels[rows])


def test_training_batches_are_drawn_by_model_and_step_over_all_classes(plan):
    real = RealImages(plan)
    images, labels = real.training_batch(0, 0)
    assert (images.shape, labels.shape, labels.dtype) == ((32, 1, 8, 8), (32,), torch.int64)
    assert len(labels.unique()) > 5
    assert images.equal(real.training_batch(0, 0)[0])
    for other in (real.training_batch(1, 0), real.training_batch(0, 1)):
        assert not images.equal(other[0])


def test_copies_of_pretrained_networks_are_trained_on_images_of_their_classes_alone():
    plan = plan_of(pretrained=3, pretrained_classes=4)[0]
    real, seen = RealImages(plan), {}
    for model in range(5):
        start = draw_start(plan.config.queue, model, num_classes=10, seed=plan.config.condense.seed)
        labels = torch.cat([real.training_batch(model, step)[1] for step in range(8)])
        assert tuple(labels.unique().tolist()) == start.classes
        seen[start.classes] = len(labels)
    assert len(seen) > 3
    assert set(seen.values()) == {8 * 32}


def test_pretraining_sees_all_classes_whatever_copies_are_bound_to():
    real = RealImages(plan_of(pretrained=3, pretrained_classes=2)[0])
    batches = [real.pretraining_batch(1, step) for step in range(8)]
    assert torch.cat([labels for _, labels in batches]).unique().tolist() == list(range(10))
    assert (batches[0][0].shape, batches[0][1].dtype) == ((32, 1, 8, 8), torch.int64)
    assert not batches[0][0].equal(real.training_batch(1, 0)[0])


def test_whole_data_are_given_by_index_with_their_labels(plan):
    whole, (_, dataset) = RealImages(plan).whole(), plan_of()
    assert whole.count == 200
    images, labels = whole.take(torch.tensor([0, 199, 20]))
    assert labels.tolist() == [0, 9, 1]
    assert close(images, normalised(dataset, [0, 199, 20]))


def test_all_test_images_are_given_once(plan):
    batches = list(RealImages(plan).test_batches())
    assert sum(len(images) for images, _ in batches) == 359
    counts = torch.cat([labels for _, labels in batches]).bincount()
    assert tuple(counts.tolist()) == plan.info.test_counts


HELD_OUT = {"val_fraction": 0.3, "limit_per_class": None, "partition": 1, "start": "whole"}


@pytest.mark.parametrize("options", [{}, {"seed": 7}, {"cache": "none"}], ids=str)
def test_images_held_out_are_tested_on_and_never_trained_on(pictures, shards, options):
    options = HELD_OUT | {"pretrained": 1, "pretrained_classes": 2} | options

    def single(batches):
        return {image.numpy().tobytes() for images, *_ in batches for image in images}

    whole = RealImages(plan_of(data=pictures, limit_per_class=None)[0]).whole()
    all_images = single([whole.take(torch.arange(21))])
    tested = []
    for source in (pictures, shards):
        plan, _ = plan_of(data=source, eval_split="validation", **options)
        with RealImages(plan) as real:
            real.expect_training([(0, 0), (1, 0)])
            held_out = single(real.test_batches())
            assert len(held_out) == 1 + 4 + 2
            assert held_out < all_images
            rest = single([real.whole().take(torch.arange(14))])
            assert rest == all_images - held_out
            seen = single([[real.start(label), real.random(label)] for label in range(3)])
            seen |= single(real.training_batch(model, 0) for model in range(5))
            seen |= single(real.pretraining_batch(0, step) for step in range(5))
            seen |= single(real.matching_batch(n, label) for n in range(3) for label in range(3))
            assert seen == rest
        tested.append(held_out)
    assert tested[0] == tested[1]


def test_test_images_are_the_same_beside_validation_images(pictures):
    plain, held_out = (
        list(RealImages(plan_of(data=pictures, **options)[0]).test_batches())
        for options in ({"limit_per_class": None}, HELD_OUT)
    )
    for one, other in zip(plain, held_out, strict=True):
        assert one[0].equal(other[0])
        assert one[1].equal(other[1])


@pytest.mark.parametrize("start", ["tiles", "whole", "noise"])
def test_start_and_random_images_have_one_shape_and_are_drawn_apart(start):
    real = RealImages(plan_of(start=start, ipc=2, partition=2)[0])
    first, again, other, random = real.start(3), real.start(3), real.start(4), real.random(3)
    assert first.shape == random.shape == (2, 1, 8, 8)
    assert first.equal(again)
    assert not first.equal(other)
    assert not first.equal(random)


# --- What they took ---


@pytest.fixture(scope="module")
def shards(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards")
    write_shards(pictures, out=out, local=True)
    return str(out)


SHARDED = {"limit_per_class": None, "batch_real": 5, "cache": "none"}


def test_batches_from_shards_are_those_from_folders_in_any_order_of_asking(pictures, shards):
    plain = RealImages(plan_of(data=pictures, **SHARDED)[0])
    found = RealImages(plan_of(data=shards, **SHARDED)[0])
    found.expect_training([(0, 0), (0, 1), (1, 0)])
    for iteration, label in ((0, 1), (2, 1), (1, 2), (0, 0)):
        for one, other in zip(
            plain.matching_batch(iteration, label),
            found.matching_batch(iteration, label),
            strict=True,
        ):
            assert one.equal(other)
    for model, step in ((1, 0), (0, 0), (0, 1), (3, 3)):
        assert plain.training_batch(model, step)[0].equal(found.training_batch(model, step)[0])
    assert plain.start(1).equal(found.start(1))
    assert plain.random(2).equal(found.random(2))


def test_reports_add_up_to_what_was_read(shards):
    plan, dataset = plan_of(data=shards, **SHARDED)
    real = RealImages(plan)
    assert real.report() == DataReport()
    real.random(1)
    first, again = real.report(), real.report()
    index_bytes = Path(shards, "index.parquet").stat().st_size
    lengths = dataset.sharded.train.members(1).lengths
    assert first.decoded == 1
    assert index_bytes + lengths.min() <= first.bytes_read <= index_bytes + lengths.max()
    assert first.waited_s > 0
    assert (again.decoded, again.bytes_read, again.waited_s) == (0, 0, 0)
    list(real.test_batches())
    assert real.report().bytes_read > 0


def test_a_full_cache_is_reported_once(shards, tmp_path):
    options = SHARDED | {"cache": "auto", "cache_limit": "10B", "cache_dir": str(tmp_path)}
    real = RealImages(plan_of(data=shards, **options)[0])
    real.random(1)
    (note,) = real.report().notes
    assert "takes no more" in note
    real.random(2)
    assert real.report().notes == ()


def test_closing_stops_what_fills_the_cache(shards, tmp_path):
    options = SHARDED | {"cache": "auto", "cache_dir": str(tmp_path)}
    real = RealImages(plan_of(data=shards, **options)[0])
    real.fill_cache()
    real.close()
    assert not [thread for thread in threading.enumerate() if "_fill" in thread.name]
    RealImages(plan_of(data=shards, **options)[0]).close()
