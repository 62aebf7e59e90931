"""What the dashboard asks Prometheus, and what the alerts do."""

import json
import re
from pathlib import Path

import yaml

FOLDER = Path(__file__).parents[2] / "cluster" / "observability"


def dashboard():
    return json.loads((FOLDER / "grafana-dashboard.json").read_text())


def panel_queries():
    """Query by title of the panel and letter, for all runs."""
    return {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$run", ".*")
        for panel in dashboard()["panels"]
        for target in panel["targets"]
    }


def rules():
    """The alerts."""
    spec = yaml.safe_load((FOLDER / "prometheus-rule.yaml").read_text())["spec"]
    return [rule for group in spec["groups"] for rule in group["rules"]]


def names_in(query):
    """Names of the project's metrics in a query."""
    return set(re.findall(r"ray_idm_\w+", query))
