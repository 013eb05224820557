"""What Prometheus reads, of all workers together.

Each process writes its values into files of PROMETHEUS_MULTIPROC_DIR, which the supervisor sets before anything
imports prometheus-client; whichever worker is asked adds them up.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from compress.runtime.text_cache import LONGEST
from compress.serve.settings import METRICS_FOLDER

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class BundleLabels(NamedTuple):
    """What tells the bundles that workers serve apart."""

    digest: str
    runtime: str
    threads: int


class Metrics:
    """The values of one process."""

    def __init__(self) -> None:
        own = CollectorRegistry()
        self.requests = Counter("kdc_requests", "Requests answered.", ["route", "status"], registry=own)
        self.seconds = Histogram(
            "kdc_request_seconds",
            "From a request's head to its answer, whatever its status.",
            ["route"],
            buckets=SECONDS,
            registry=own,
        )
        self.waiting = Gauge(
            "kdc_waiting_texts", "Texts that wait for the model.", multiprocess_mode="livesum", registry=own
        )
        self.batch = Histogram("kdc_batch_texts", "Texts in a call of the model.", buckets=TEXTS, registry=own)
        self.model_seconds = Histogram(
            "kdc_model_seconds", "Seconds of a call of the model, tokenizer included.", buckets=SECONDS, registry=own
        )
        self.texts = Counter(
            "kdc_cached_texts",
            f"Texts of up to {LONGEST} characters whose tokens were looked up, by outcome: hit, miss.",
            ["outcome"],
            registry=own,
        )
        self.workers = Gauge("kdc_workers", "Workers that serve.", multiprocess_mode="livesum", registry=own)
        self.bundle = Gauge(
            "kdc_bundle_workers",
            "Workers that serve this bundle, by its digest, with what runs its model and on how many threads.",
            ["digest", "runtime", "threads"],
            multiprocess_mode="livesum",
            registry=own,
        )
        self.reloads = Counter(
            "kdc_reloads", "New bundles that were asked for, by outcome: done, refused.", ["outcome"], registry=own
        )
        self.replaced = Counter("kdc_workers_replaced", "Workers that ended unasked.", registry=own)

    def on_batch(self, texts: int, seconds: float) -> None:
        """A call of the model."""
        self.batch.observe(texts)
        self.model_seconds.observe(seconds)

    def on_texts(self, hits: int, misses: int) -> None:
        """Texts whose tokens were kept, and texts whose tokens were not."""
        for outcome, count in (("hit", hits), ("miss", misses)):
            if count:
                self.texts.labels(outcome).inc(count)

    def on_bundle(self, bundle: BundleLabels, before: BundleLabels | None) -> None:
        """This worker serves another bundle."""
        if before is not None:
            self.bundle.labels(*before).set(0)
        self.bundle.labels(*bundle).set(1)


def exposition() -> bytes:
    """All processes' values, in the text format."""
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # its signature has no types
    return generate_latest(registry)


def forget(process: int) -> None:
    """Take out what a process that ended says of the present; what it counted stays."""
    multiprocess.mark_process_dead(process, os.environ[METRICS_FOLDER])  # type: ignore[no-untyped-call]  # as above
