"""The forms of prometheus-client in which metrics are told: of a node, and of a cluster. Loaded where they are served
alone: prometheus-client is an extra."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from mpfora.model.histogram import Histogram


def encode(metrics: Iterable[Metric], accept: str) -> tuple[bytes, str]:
    """(text, its content type) in the format that the asker accepts, with the metrics of the process."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Given(metrics))
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


class _Given:
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


Values = Mapping[tuple[str, ...], float]


def keyed(values: Mapping[str, Any]) -> dict[tuple[str, ...], float]:
    return {(name,): float(value) for name, value in values.items()}


def _filled(family: Any, values: Values) -> Any:
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family


def gauge(name: str, text: str, values: Values, *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(f"mpfora_{name}", text, labels=labels), values)


def one(name: str, text: str, value: float) -> Metric:
    return gauge(name, text, {(): float(value)})


def counter(name: str, text: str, values: Values, *labels: str) -> Metric:
    return _filled(CounterMetricFamily(f"mpfora_{name}", text, labels=labels), values)


def histogram(name: str, text: str, values: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(f"mpfora_{name}", text, labels=("handler",))
    for handler, histogram in sorted(values.items()):
        family.add_metric((handler,), histogram.buckets(), histogram.sum)
    return family


def plain_histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(f"mpfora_{name}", text, buckets=histogram.buckets(), sum_value=histogram.sum)
