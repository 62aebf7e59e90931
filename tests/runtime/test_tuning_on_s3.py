"""A search whose folder is in a bucket."""

import pytest

from idm_ray.progress import Announcement
from idm_ray.sharding import write_shards
from idm_ray.storage import Location
from idm_ray.tuning.request import Ablation
from idm_ray.tuning.tune import tune
from tests.runtime.running import TINY
from tests.storage_server import make_bucket

OPTIONS = {**TINY, "iterations": 3, "repeats": 1, "eval_epochs": 2, "gpus_per_actor": 0}
PASSWORD = "pa55word"
WORDS = (PASSWORD.encode(), PASSWORD.encode().hex().encode())


@pytest.mark.slow
def test_a_search_lies_in_a_bucket_and_goes_on_there(s3_server):
    bucket = make_bucket(s3_server).removeprefix("s3://")
    # In the URI, as the processes of the cluster have an environment of their own.
    query = f"endpoint_override=127.0.0.1:{s3_server}&scheme=http"
    data, uri = (f"s3://tester:{PASSWORD}@{bucket}/{name}?{query}" for name in ("data", "search"))
    write_shards("digits", out=data, local=True)
    options = {**OPTIONS, "data": data}
    tuned = tune(values="0,0.5", how=Ablation(seeds=1), out=uri, **options)
    names = [entry.path for entry in Location.at(uri).files()]
    assert {name for name in names if "/" not in name} == {
        *("best.yaml", "lambda_reg.png", "lambda_reg.svg", "results.csv", "results.parquet"),
        *("search.yaml", "summary.json", "trials.json"),
    }
    for number in (0, 1):
        assert f"trials/lambda_reg-{number}-seed0/condensed.parquet" in names
        assert any(name.startswith(f"logs/lambda_reg-{number}-seed0/events.out") for name in names)
    assert PASSWORD not in str(tuned.folder)
    for name in names:
        # Tune writes some of what it pickles as hexadecimal numbers.
        content = (Location.at(uri) / name).read_bytes()
        assert not any(word in content for word in WORDS), name
    events = []
    again = tune(
        values="0,0.5",
        how=Ablation(seeds=1),
        out=uri,
        resume="auto",
        listener=events.append,
        **options,
    )
    assert Announcement("2 runs, 2 of them complete") in events
    assert again.found[0].rows == tuned.found[0].rows
    assert again.test == tuned.test
