import pytest

from idm_ray.bench.settings import DEFAULT_SETTING, SETTINGS
from idm_ray.errors import UserError
from tests.bench.making import plan_of


def test_the_names_are_fixed():
    assert list(SETTINGS) == [
        "cifar10-ipc1",
        "cifar10-ipc10",
        "cifar10-ipc10-interval30",
        "cifar100-ipc10",
        "imagenet-224",
    ]
    assert DEFAULT_SETTING == "cifar10-ipc10"
    assert all(name == setting.name for name, setting in SETTINGS.items())


@pytest.mark.parametrize("name", [name for name in SETTINGS if name.startswith("cifar")])
def test_cifar_has_its_shape_and_trains_two_networks_by_ten_steps(name):
    setting = SETTINGS[name]
    assert setting.image_shape == (3, 32, 32)
    assert setting.num_classes * setting.images_per_class == 50_000
    config = plan_of(setting).config
    assert config.condense.batch_real == config.queue.batch_train == 256
    assert config.condense.partition == 2
    assert config.condense.ipc == int(name.split("ipc")[1].split("-")[0])
    assert (config.queue.num_trained_models, config.queue.train_steps) == (2, 10)
    assert config.queue.train_interval == (30 if "interval30" in name else 1)


def test_imagenet_is_small():
    config = plan_of(SETTINGS["imagenet-224"]).config
    assert SETTINGS["imagenet-224"].num_classes == 4
    assert (config.condense.network, config.condense.batch_real) == ("convnet-6", 16)
    assert (config.queue.num_trained_models, config.queue.train_steps) == (1, 1)


def test_options_of_the_machine_are_checked(tmp_path):
    with pytest.raises(UserError, match="precision"):
        SETTINGS["cifar10-ipc1"].config(tmp_path, tmp_path, {"precision": "float8"})
