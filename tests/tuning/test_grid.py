"""Runs of a grid that are there already are taken over only if they are what is asked for."""

import dataclasses

import pytest

from idm_ray.errors import UserError
from idm_ray.resolving import settled
from idm_ray.storage import Location
from idm_ray.tuning.grid import complete, job_of
from tests.making_runs import TINY, plan_of, run


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A folder with a complete run of `trials/one`."""
    folder = tmp_path_factory.mktemp("search")
    run(folder / "trials" / "one")
    return Location.at(folder)


def job(**options):
    given = {**TINY, **options}
    info = plan_of()[0].info
    return job_of("trials/one", settled(given, info), info, queue_key=None)


def test_a_complete_run_of_these_settings_is_taken_over(there):
    assert complete(job(), there)["iterations"] == 3
    assert complete(job(actors=4, local=False), there) is not None


def test_a_run_that_is_not_there_is_not_complete(there):
    assert complete(dataclasses.replace(job(), name="trials/two"), there) is None


def test_a_complete_run_of_other_settings_or_images_is_refused_by_name(there):
    with pytest.raises(UserError, match=r"lr_img 0\.05 there, 0\.3 now"):
        complete(job(lr_img=0.3), there)
    asked = job()
    other = dataclasses.replace(asked.info, fingerprint="of others")
    with pytest.raises(UserError, match="other images"):
        complete(dataclasses.replace(asked, info=other), there)
