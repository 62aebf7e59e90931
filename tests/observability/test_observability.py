"""Dashboard, alerts and code know each other's names; alerts fire when they should, not else."""

import re
import shutil
import subprocess

import pytest
import yaml

from idm_ray.monitoring import METRICS
from tests.observability.queries import FOLDER, dashboard, names_in, panel_queries, rules

EXPORTED = {metric.exported for metric in METRICS}
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)


def promtool(*words):
    return subprocess.run(
        ["promtool", *map(str, words)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def alerts(tmp_path):
    """The file of tests of alerts, with the rules that are shipped beside it."""
    spec = yaml.safe_load((FOLDER / "prometheus-rule.yaml").read_text())["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    text = (FOLDER.parents[1] / "tests" / "observability" / "alerts.yaml").read_text()
    (tmp_path / "alerts.yaml").write_text(text)
    return tmp_path / "alerts.yaml"


def test_the_dashboard_shows_every_metric_and_none_that_there_is_not():
    shown = set().union(*map(names_in, panel_queries().values()))
    assert shown == EXPORTED - {"ray_idm_running"}
    (variable,) = [one for one in dashboard()["templating"]["list"] if one["name"] == "run"]
    assert names_in(variable["query"]["query"]) == {"ray_idm_running"}


def test_alerts_look_at_metrics_that_there_are():
    for rule in rules():
        assert names_in(rule["expr"])
        assert names_in(rule["expr"]) <= EXPORTED


def test_labels_in_texts_of_alerts_are_labels_of_their_metrics():
    labels = {m.exported: {"run", *m.labels} for m in METRICS}
    for rule in rules():
        known = set().union(*(labels[name] for name in names_in(rule["expr"])))
        text = " ".join(rule["annotations"].values())
        used = {part.split()[0].strip("}") for part in text.split("$labels.")[1:]}
        assert {name.rstrip(":}") for name in used} <= known


def test_every_panel_has_a_place_of_its_own_a_title_and_a_text():
    places = set()
    for panel in dashboard()["panels"]:
        where = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(where["x"], where["x"] + where["w"])
            for y in range(where["y"], where["y"] + where["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & places
        places |= cells
        assert panel["title"]
        assert panel["description"].endswith(".")


def test_every_alert_is_tested_both_firing_and_not_firing():
    tests = yaml.safe_load((FOLDER.parents[1] / "tests/observability/alerts.yaml").read_text())
    cases = [case for test in tests["tests"] for case in test["alert_rule_test"]]
    for rule in rules():
        fires = {bool(c.get("exp_alerts")) for c in cases if c["alertname"] == rule["alert"]}
        assert fires == {True, False}, rule["alert"]


@needs_promtool
def test_prometheus_reads_the_rules_and_fires_as_it_should(alerts):
    assert promtool("check", "rules", alerts.parent / "rules.yaml").returncode == 0
    done = promtool("test", "rules", alerts)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_a_rule_that_fires_too_late_is_noticed(alerts):
    rules_file = alerts.parent / "rules.yaml"
    rules_file.write_text(rules_file.read_text().replace("> 1800", "> 18000"))
    done = promtool("test", "rules", alerts)
    assert done.returncode != 0
    assert "IdmNoProgress" in done.stdout + done.stderr


def test_the_page_lists_every_metric_and_every_alert_as_it_is():
    page = (FOLDER.parents[1] / "docs" / "observability.md").read_text()
    rows = re.findall(r"^\| `(ray_idm_\w+)` \| (.*) \| (.*) \|$", page, re.MULTILINE)
    assert rows == [
        (metric.exported, ", ".join(f"`{label}`" for label in metric.labels), metric.text)
        for metric in METRICS
    ]
    assert re.findall(r"^\| `(Idm\w+)` ", page, re.MULTILINE) == [r["alert"] for r in rules()]
