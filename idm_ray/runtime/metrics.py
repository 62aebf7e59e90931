"""Measurements of a run, where Ray exports those of its own."""

from typing import Any

from ray.util import metrics

from idm_ray.monitoring import Measurement, Metric


class Exporter:
    """Takes the measurements of one run; each process of Ray's collects them within seconds.

    Args:
        run: what it is called.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._series: dict[str, Any] = {}

    def __call__(self, measurement: Measurement) -> None:
        """Take one."""
        metric = measurement.metric
        if metric.name not in self._series:
            self._series[metric.name] = _declare(metric)
        series, labels = self._series[metric.name], {"run": self._run, **measurement.labels}
        if metric.kind == "counter":
            series.inc(measurement.value, labels)
        else:
            series.set(measurement.value, labels)


def _declare(metric: Metric) -> Any:
    kind = metrics.Counter if metric.kind == "counter" else metrics.Gauge
    return kind(metric.name, metric.text, ("run", *metric.labels))
