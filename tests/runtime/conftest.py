"""One Ray cluster for all tests of this folder: 4 logical CPUs and 4 GPUs that do not exist."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def cluster(tmp_path_factory):
    # Importing it first makes the settings that Ray reads at import.
    import ray  # noqa: PLC0415

    from idm_ray.runtime import connection  # noqa: F401, PLC0415

    context = ray.init(
        address="local",
        num_cpus=4,
        num_gpus=4,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        logging_level="ERROR",
        log_to_driver=False,
    )
    yield context
    ray.shutdown()


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/runtime" in item.nodeid:
            item.add_marker(pytest.mark.ray)
