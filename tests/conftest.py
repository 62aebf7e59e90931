"""What all tests share: a cache of their own, and an S3 server for those that ask for it."""

import pytest

from idm_ray.data import node_cache
from idm_ray.object_filesystem import Patience
from tests.storage_server import Proxy, Store, make_bucket, serve_s3


@pytest.fixture(scope="session", autouse=True)
def cache_of_decoded_images(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(node_cache, "_FREE_SHARE", 0.0)  # the tests' own disk may be nearly full
        yield


@pytest.fixture(scope="session")
def s3_server():
    """The port of a real S3 server, started once."""
    with serve_s3() as port:
        yield port


@pytest.fixture
def store(s3_server, monkeypatch):
    """A fresh bucket behind a proxy that fails on command; of an impatient client."""
    proxy = Proxy(s3_server)
    with proxy.running() as endpoint:
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL_S3"):
            monkeypatch.delenv(name, raising=False)
        patience = Patience(
            tries=3, first_wait_s=0.01, connect_timeout_s=1.0, silence_timeout_s=1.0
        )
        monkeypatch.setattr("idm_ray.object_store.PATIENCE", patience)
        yield Store(make_bucket(s3_server), proxy)
