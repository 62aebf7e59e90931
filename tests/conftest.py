"""What all tests share: a cache of their own, so that the digits are decoded once."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_decoded_images(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
