"""What docs/security.md promises of our own code; that passwords go nowhere."""

import json
import os
import pickle
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from idm_ray.errors import DataError
from idm_ray.estimation import probe
from idm_ray.passwords import hide_passwords
from idm_ray.sharding import write_shards
from idm_ray.storage import Location
from idm_ray.tuning import tune as tuning
from idm_ray.work_log import json_line
from tests.making_runs import TINY, as_words, command, plan_of
from tests.source_guard import breaches, breaches_of_text

ROOT = Path(__file__).parent.parent
SOURCES = [
    path
    for part in ("idm_ray", "pipelines", "cluster", "docs")
    for path in (ROOT / part).rglob("*.py")
]
SCRIPTS = [
    *(path for path in (ROOT / "cluster").rglob("*") if path.is_file()),
    *(ROOT / name for name in ("Makefile", ".ci/run", ".pre-commit-config.yaml")),
]
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]


def name_of(path):
    return str(path.relative_to(ROOT))


# Torch's own form is what some want; who loads it refuses all code in it.
ALLOWED = {"idm_ray/formats/torch_file.py": "torch.save("}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_source_runs_what_it_reads_or_listens_to_everybody(path):
    allowed = ALLOWED.get(name_of(path))
    found = breaches(path.read_text())
    assert [line for line in found if allowed is None or not line.startswith(allowed)] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_no_script_or_manifest_has_anything_listen_to_everybody(path):
    assert breaches_of_text(path.read_text()) == []


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_no_command_of_a_page_has_anything_listen_to_everybody(path):
    blocks = re.findall(r"```\w*\n(.*?)```", path.read_text(), flags=re.DOTALL)
    assert breaches_of_text("\n".join(blocks)) == []


def test_no_source_in_c_runs_a_command():
    for path in (ROOT / "idm_ray" / "native").glob("*.[ch]*"):
        assert not re.search(r"\b(system|popen|exec[lv]p?e?)\s*\(", path.read_text())


@pytest.mark.parametrize(
    "bad",
    [
        "import pickle",
        "from ray import cloudpickle",
        "import ray.cloudpickle as safe",
        "def f():\n    from joblib import load",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=maybe)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "from torch import load\nload(path)",
        "import torch as t\nt.load(path, map_location='cpu')",
        "torch.jit.load(path)",
        "import pandas as pd\npd.read_pickle(path)",
        "from ray import tune\ntune.Tuner.restore(path, run)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load(text, yaml.FullLoader)",
        "from yaml import unsafe_load as read\nread(text)",
        "eval(text)",
        "exec(compile(text, 'x', 'exec'))",
        "os.system('ls')",
        "from os import popen\npopen(text)",
        "subprocess.run(words, shell=True)",
        "subprocess.run(f'ls {folder}')",
        "subprocess.Popen('ls ' + folder)",
        "from subprocess import check_output\ncheck_output(' '.join(words))",
        "import subprocess as s\ns.call('ls %s' % folder)",
        "HTTPServer(('0.0.0.0', 80), Handler)",
        "HTTPServer(('', 80), Handler)",
        "socket.bind(('', 0))",
        "socket.bind(('::', 0))",
        "socket.create_server(('', 0))",
        "asyncio.start_server(handle, host='')",
        "asyncio.start_server(handle, None, 80)",
        "app.run(host='::')",
        "ray.init(dashboard_host='127.0.0.1')",
        "ray.init(**{'dashboard_host': address})",
        "subprocess.run(['ray', 'start', '--head', '--dashboard-host', address])",
    ],
)
def test_a_bad_source_is_found(bad):
    assert len(breaches(bad)) >= 1


def test_a_good_source_is_left_alone():
    good = """
import subprocess, yaml
subprocess.run(["git", "status"], check=True, shell=False)
subprocess.run(command, check=True)
yaml.safe_load(text)
yaml.load(text, Loader=yaml.CSafeLoader)
torch.load(path, weights_only=True)
np.load(path, allow_pickle=False)
re.compile("x"), folder.run("x"), network.eval()
socket.bind(("127.0.0.1", 0))
ray.init(address="local", include_dashboard=False)
"""
    assert breaches(good) == []


@pytest.mark.parametrize(
    "bad",
    [
        "ray start --head --dashboard-host=0.0.0.0",
        "ray start --head --dashboard-host 127.0.0.1",
        "rayStartParams:\n  dashboard-host: 10.0.0.1",
        "python -m http.server --bind 0.0.0.0",
        "serve --host ::",
        "serve --host=''",
    ],
)
def test_a_bad_script_is_found(bad):
    assert len(breaches_of_text(bad)) == 1


# --- Passwords ---

PASSWORD, OF_THE_ENVIRONMENT = "pa55word", "3nv1ronment"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("from s3://k:pw@b/x to gs://b/y", "from s3://k:***@b/x to gs://b/y"),
        ("--out=s3://k:pw@b?endpoint_override=h:1", "--out=s3://k:***@b?endpoint_override=h:1"),
        ("'s3://k:a/b+c@b/x'", "'s3://k:***@b/x'"),
        ("abfs://c@a/x?sig=pw&sv=1", "abfs://c@a/x?sig=***&sv=1"),
        ("foo://user:pw@host", "foo://user:***@host"),
        ("hdfs://node:8020/a@b", "hdfs://node:8020/a@b"),
        ("http://127.0.0.1:8265 asks me@home", "http://127.0.0.1:8265 asks me@home"),
    ],
)
def test_passwords_are_taken_out_of_any_text(text, told):
    assert hide_passwords(text) == told


def test_a_line_of_json_holds_no_password_and_stays_json():
    line = json_line("log", run=None, actor="x", iteration=1, message='"s3://k:pw@b" "a?sig=pw"')
    assert json.loads(line)["message"] == '"s3://k:***@b" "a?sig=***"'


def places(bucket, *names):
    """URIs with all that it takes to use them, the password among it."""
    endpoint, bucket = os.environ["AWS_ENDPOINT_URL"], bucket.removeprefix("s3://")
    return [f"s3://key:{PASSWORD}@{bucket}/{name}?endpoint_override={endpoint}" for name in names]


def test_a_run_and_an_evaluation_tell_and_write_down_no_password(store, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OF_THE_ENVIRONMENT)
    data, out = places(store.bucket, "data", "run")
    write_shards("digits", out=data, local=True)
    words = as_words(**{**TINY, "data": data, "repeats": 1})
    ran = command("condense", f"--out={out}", *words, "--log-format=json")
    assert ran.status == 0, ran.err
    file = tmp_path / "found.json"
    of_both = ("--device=cpu", "--threads=1", "--repeats=1", "--eval-epochs=1", "--local")
    ran_too = command(
        "evaluate",
        f"{out.replace('?', '/condensed.parquet?')}",
        f"--data={data}",
        f"--json={file}",
        *of_both,
    )
    assert ran_too.status == 0, ran_too.err
    there = Location.at(out)
    names = {entry.path for entry in there.files()}
    assert {"config.yaml", "summary.json", "metrics.jsonl", "condensed.parquet"} <= names
    told = {name: (there / name).read_bytes() for name in names}
    told |= {"said": "".join((ran.out, ran.err, ran_too.out, ran_too.err)).encode()}
    told |= {"found.json": file.read_bytes()}
    told |= {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name, content in told.items():
        assert PASSWORD.encode() not in content, name
        assert OF_THE_ENVIRONMENT.encode() not in content, name
    assert b"key:***@" in told["config.yaml"]


def test_a_search_writes_down_no_password_and_goes_on_without_it(tmp_path, monkeypatch, store):
    (data,) = places(store.bucket, "data")
    write_shards("digits", out=data, local=True)
    # What becomes best.yaml, without the runs.
    monkeypatch.setattr(
        tuning.Searching, "ready", lambda asked, *of: lambda: (asked.given, asked.runs)
    )
    asked = {"out": tmp_path / "search", "classes": "0,1"}
    written, used = tuning.tune(data=data, **asked)
    assert PASSWORD not in str(written)
    assert used["data"] == data
    content = (tmp_path / "search" / "search.yaml").read_text()
    assert PASSWORD not in content
    assert "key:***@" in yaml.safe_load(content)["options"]["data"]
    _, used = tuning.tune(data=data.replace(PASSWORD, "another"), resume="auto", **asked)
    assert "another" in used["data"]
    with pytest.raises(tuning.UserError, match="was asked otherwise") as refused:
        tuning.tune(data=data, ipc=2, resume="auto", **asked)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    "words",
    [
        ("condense", f"s3://key:{PASSWORD}@bucket/data"),
        ("--debug", "condense", f"--data=foo://key:{PASSWORD}@host/data"),
        ("condense", "--data", f"s3://key:{PASSWORD}/with/slashes@bucket/data"),
        ("evaluate", f"foo://key:{PASSWORD}@host/x", "--data=digits"),
        ("analyse", f"foo://key:{PASSWORD}@host/x", "--data=digits", "--out=new"),
        ("resume", f"foo://key:{PASSWORD}@host/x"),
        ("tune", "--resume=auto", f"--out=foo://key:{PASSWORD}@host/x", "--iterations=1"),
    ],
)
def test_no_refusal_tells_a_password(words, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    done = command(*words)
    assert done.status == 2
    assert PASSWORD not in done.out + done.err
    assert "***" in done.err or "%2F" in done.err


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://key:{PASSWORD}@bucket/x?region=eu-west-1",
        "abfss://c:cGE1NXdvcmQ=@account.dfs.core.windows.net/x",
    ],
)
def test_a_file_system_for_others_takes_no_password_into_a_pickle(uri):
    filesystem, path = Location.at(uri).arrow()
    pickled = pickle.dumps(filesystem)
    assert not any(word in pickled for word in (PASSWORD.encode(), b"cGE1NXdvcmQ"))
    with pytest.raises(OSError, match=r"Not a directory|Cannot"):
        pickle.loads(pickled).open_output_stream(path)


def test_a_wrapped_file_system_is_the_one_that_it_wraps():
    place = Location.at("fsspec+memory:///wrapped/file")
    place.write_text("text")
    filesystem, path = place.arrow()
    with filesystem.open_input_stream(path) as file:
        assert file.readall() == b"text"


def test_a_process_that_is_measured_gets_its_data_out_of_sight(monkeypatch):
    seen = []
    monkeypatch.setattr(subprocess, "run", lambda words, **how: seen.append((words, how)))
    plan, _ = plan_of()
    data = f"s3://key:{PASSWORD}@bucket/x"
    probe._process_s(type("Plan", (), {"config": plan.config.replace(data=data)}))
    ((words, how),) = seen
    assert PASSWORD not in str(words)
    assert json.loads(how["input"])["data"] == data


def test_a_secret_that_is_not_quoted_is_refused():
    with pytest.raises(DataError, match="with %2F for each '/'"):
        Location.at("s3://key:a/b@bucket/x").exists()
