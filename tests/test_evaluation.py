import pytest
import torch
from torch.utils.data import DataLoader

import idm_ray
from idm_ray.algorithm.expansion import expand
from idm_ray.config import DataConfig
from idm_ray.data.dataset import open_dataset
from idm_ray.errors import CondensedSetError, UserError
from idm_ray.execution import Started
from idm_ray.progress import Announcement, Evaluated
from tests.data.making import images_of
from tests.making_runs import run, write_pictures

HERE = {"local": True, "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run whose images must be expanded, and which is evaluated."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return run(folder, partition=2, ipc=2, repeats=2, seed=3)


@pytest.fixture(scope="module")
def a_set(finished):
    return finished.folder / "condensed.parquet"


def evaluate(file, **options):
    return idm_ray.evaluate(file, **{"data": "digits", **HERE, **options})


# --- evaluate ---


def test_a_set_is_as_good_as_its_run_said(finished, a_set):
    events = []
    found = evaluate(a_set, listener=events.append)
    assert (found.file, found.data, list(found.networks)) == (str(a_set), "digits", ["convnet-2"])
    run_said = finished.summary["evaluation"]
    said = {"protocol", "epochs", "split", "repeats", "mean", "std", "accuracies"}
    assert set(found.networks["convnet-2"]) == said
    assert found.networks["convnet-2"] == {name: run_said[name] for name in said}
    kinds = [type(event) for event in events]
    assert kinds == [Announcement, Started, Evaluated, Evaluated]


def test_the_images_of_a_run_s_validation_can_be_tested_on_again(tmp_path):
    finished = run(tmp_path, val_fraction=0.3, eval_split="validation", repeats=2)
    held_out = {"val_fraction": 0.3, "limit_per_class": 20}
    found = evaluate(tmp_path / "condensed.parquet", eval_split="validation", **held_out)
    result = found.networks["convnet-2"]
    assert result["split"] == "validation"
    assert result["accuracies"] == finished.summary["evaluation"]["accuracies"]
    on_test = evaluate(tmp_path / "condensed.parquet", **held_out).networks["convnet-2"]
    assert on_test["split"] == "test"
    assert (
        on_test["accuracies"]
        == evaluate(tmp_path / "condensed.parquet").networks["convnet-2"]["accuracies"]
    )


def test_networks_of_other_kinds_can_be_tried(a_set):
    names = "alexnet,resnet18-bn,torchvision/resnet18"
    found = evaluate(a_set, networks=names, repeats=1).networks
    assert list(found) == names.split(",")
    assert found == evaluate(a_set, networks=names, repeats=1).networks
    assert len({result["mean"] for result in found.values()}) > 1


def test_a_set_is_condensed_with_another_network(tmp_path):
    run(tmp_path, network="alexnet", repeats=1)
    assert idm_ray.load(tmp_path).card.network == "alexnet"
    assert list(evaluate(tmp_path).networks) == ["alexnet"]


def test_the_set_s_flips_hold_unless_others_are_asked_for(tmp_path):
    run(tmp_path, flips="on", repeats=1)
    card = idm_ray.load(tmp_path).card
    assert card.flips
    assert "mirror them freely" in card.usage
    said = evaluate(tmp_path, eval_epochs=20).networks
    assert said == evaluate(tmp_path, eval_epochs=20, flips="on").networks
    assert said != evaluate(tmp_path, eval_epochs=20, flips="off").networks


def test_fewer_networks_are_the_first_of_more(finished, a_set):
    result = evaluate(a_set, repeats=1).networks["convnet-2"]
    assert result["accuracies"] == finished.summary["evaluation"]["accuracies"][:1]


def test_seed_and_epochs_can_be_others(finished, a_set):
    said = finished.summary["evaluation"]["accuracies"]
    other_seed = evaluate(a_set, seed=4).networks["convnet-2"]
    more_epochs = evaluate(a_set, eval_epochs=3).networks["convnet-2"]
    assert other_seed["accuracies"] != said
    assert more_epochs["accuracies"] != said
    assert (other_seed["epochs"], more_epochs["epochs"]) == (2, 3)


def test_the_test_images_are_all_used_however_few_were_condensed(a_set):
    limited = evaluate(a_set, repeats=1, limit_per_class=5)
    assert limited.networks == evaluate(a_set, repeats=1).networks


def test_other_networks_can_be_tried(a_set):
    networks = evaluate(a_set, networks=["convnet-1", "convnet-2"], repeats=1).networks
    assert list(networks) == ["convnet-1", "convnet-2"]
    assert networks["convnet-1"]["accuracies"] != networks["convnet-2"]["accuracies"]


def test_a_set_that_its_run_did_not_evaluate_can_be_evaluated(tmp_path):
    run(tmp_path, repeats=0)
    result = evaluate(tmp_path / "condensed.parquet").networks["convnet-2"]
    assert (result["repeats"], result["epochs"]) == (1, 2)


def test_other_classes_are_refused(tmp_path, a_set):
    pictures = write_pictures(tmp_path / "pictures", {"ant": 2, "bee": 2, "cat": 2, "dog": 2})
    with pytest.raises(UserError) as raised:
        evaluate(a_set, data=str(pictures))
    assert str(raised.value) == (
        "the set has 10 classes (0, 1, 2, ...), the data 4 (ant, bee, cat, ...); evaluate on the "
        "data that the set was made of, with the same --classes"
    )


def test_another_size_is_refused_with_the_option_that_helps(a_set):
    with pytest.raises(UserError) as raised:
        evaluate(a_set, size=16)
    assert str(raised.value) == (
        "the set's images are 1x8x8, those of the data 1x16x16; use --size 8"
    )
    assert evaluate(a_set, size=8, repeats=1) == evaluate(a_set, repeats=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"networks": ["convnet-7"]}, "would reduce 8x8 images to a 1x1 map"),
        ({"networks": ["resnet"]}, "network must be auto, convnet-DEPTH"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"partition": 1}, "got partition, which is the set's own; leave it out"),
        ({"lr_net": 0.1}, "got lr_net, which is the set's own; leave it out"),
        ({"epochs": 5}, "unknown option 'epochs'"),
        ({"data": "digit"}, "did you mean 'digits'?"),
        ({"eval_split": "validation"}, "set val_fraction, such as 0.1, or eval_split test"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(a_set, options, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        evaluate(a_set, **options)


def test_a_damaged_set_is_neither_evaluated_nor_loaded(tmp_path, a_set):
    content = bytearray(a_set.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(content)
    for use in (evaluate, idm_ray.load):
        with pytest.raises(CondensedSetError) as raised:
            use(damaged)
        assert str(raised.value).startswith(f"{damaged}: ")
        assert "\n" not in str(raised.value)


# --- load ---


def test_a_set_knows_how_many_images_it_gives(a_set):
    loaded = idm_ray.load(a_set)
    assert len(loaded) == 20
    assert (len(loaded.dataset()), len(loaded.dataset(expand=False))) == (80, 20)
    assert loaded.labels.tolist() == [label for label in range(10) for _ in range(2)]


def test_expanded_images_have_the_size_and_label_of_the_image_they_are_from(a_set):
    loaded = idm_ray.load(a_set)
    images, labels = zip(*loaded.dataset(), strict=True)
    assert torch.stack(images).equal(expand(loaded.images, 2))
    assert list(labels) == [label for label in range(10) for _ in range(8)]
    image, label = loaded.dataset(expand=False)[3]
    assert (image.shape, label) == ((1, 8, 8), 1)
    assert image.equal(loaded.images[3])


def test_a_data_loader_takes_it(a_set):
    batches = list(DataLoader(idm_ray.load(a_set).dataset(), batch_size=32))
    assert [tuple(images.shape) for images, _ in batches] == [(32, 1, 8, 8)] * 2 + [(16, 1, 8, 8)]
    assert torch.cat([labels for _, labels in batches]).bincount().tolist() == [8] * 10


def linear():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))


def real_test_images():
    dataset = open_dataset(DataConfig())
    pixels = torch.from_numpy(images_of(dataset.test)).float() / 255
    mean, std = (torch.tensor(values) for values in (dataset.info.mean, dataset.info.std))
    return (pixels - mean) / std, torch.from_numpy(dataset.test.labels)


def test_any_network_can_be_fitted_and_is_then_better_than_chance(a_set):
    network = linear()
    images, labels = real_test_images()
    fitted = idm_ray.load(a_set).fit(network, epochs=30)
    assert fitted is network
    assert not network.training
    with torch.no_grad():
        accuracy = (network(images).argmax(dim=1) == labels).float().mean()
    assert accuracy > 0.3


def test_a_fit_is_the_same_again_and_another_with_another_seed(a_set):
    loaded = idm_ray.load(a_set)

    def weights(**options):
        return loaded.fit(linear(), **options)[1].weight

    assert weights().equal(weights())
    assert weights().equal(weights(epochs=2))
    assert not weights().equal(weights(seed=1))
    assert not weights().equal(weights(epochs=1))


def test_a_fit_does_not_change_the_set(a_set):
    loaded = idm_ray.load(a_set)
    before = loaded.images.clone()
    loaded.fit(linear(), epochs=1)
    assert loaded.images.equal(before)
