"""A bundle's service on Kubernetes 1.30 or newer: Deployment, Service and HorizontalPodAutoscaler for `kdc serve`.

The image is the one that `--target docker` describes, by its name and tag: a bundle does not fit into a ConfigMap,
which holds at most 1 MiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from compress.bundle.docker import PORT, USER, image_name, image_tag
from compress.runtime.bundle import Bundle

REPLICAS = (2, 10)
"""Fewest and most pods."""
BUSY_PERCENT = 70
"""Processor time, of what is requested, above which there are more pods; below it requests hardly wait."""
DRAIN_SECONDS = 5
"""Between the end of a pod's traffic and SIGTERM: balancers learn of the end late."""
GRACE_SECONDS = DRAIN_SECONDS + 30
"""`kdc serve` ends at the latest 25 s after SIGTERM with its own timeout of 10 s."""
SERVER_MIB, WORKER_MIB = 96, 128
"""Memory of the supervisor, and of a worker without its model."""
KUSTOMIZATION = "kustomization.yaml"


def write_manifests(bundle: Bundle, out: Path) -> list[str]:
    """Write a file for each object and a kustomization into a new folder; returns their names."""
    name = image_name(bundle.manifest.name)
    objects = {
        "deployment.yaml": _deployment(bundle, name),
        "service.yaml": _service(name),
        "autoscaler.yaml": _autoscaler(name),
    }
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [*objects],
        "images": [{"name": name, "newName": name, "newTag": image_tag(bundle)}],
    }
    out.mkdir(parents=True)
    for file, content in (objects | {KUSTOMIZATION: kustomization}).items():
        (out / file).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return [*objects, KUSTOMIZATION]


def _labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "kdc"}


def _object(version: str, kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": _labels(name)}, "spec": spec}


def _deployment(bundle: Bundle, name: str) -> dict[str, Any]:
    chosen = {"app.kubernetes.io/name": name}
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(bundle, name)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "2Gi"}}],
    }
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/path": "/metrics", "prometheus.io/port": str(PORT)}
    return _object(
        "apps/v1",
        "Deployment",
        name,
        {
            # no replicas: applying the file again would undo what the autoscaler chose
            "selector": {"matchLabels": chosen},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": _labels(name) | {"kdc/bundle": image_tag(bundle)}, "annotations": annotations},
                "spec": pod,
            },
        },
    )


def _container(bundle: Bundle, name: str) -> dict[str, Any]:
    return {
        "name": "kdc",
        "image": f"{name}:{image_tag(bundle)}",
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": {
            "requests": {"cpu": "1", "memory": memory(bundle)},
            "limits": {"memory": memory(bundle)},  # none of the processor: it would stop a thread amid an answer
        },
        "startupProbe": _probe("/ready", periodSeconds=1, failureThreshold=60),
        "readinessProbe": _probe("/ready", periodSeconds=5, failureThreshold=2),
        "livenessProbe": _probe("/health", periodSeconds=10, failureThreshold=3),
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  # where the server keeps its copy
    }


def memory(bundle: Bundle) -> str:
    """What a pod of one worker needs: server, worker, and the bundle four times: file and model, old and new."""
    size = sum(map(len, bundle.members.values()))
    return f"{SERVER_MIB + WORKER_MIB + 4 * -(-size // 2**20)}Mi"


def _probe(path: str, **limits: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 2, **limits}


def _service(name: str) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    return _object("v1", "Service", name, {"selector": {"app.kubernetes.io/name": name}, "ports": ports})


def _autoscaler(name: str) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": BUSY_PERCENT}
    return _object(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        name,
        {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": REPLICAS[0],
            "maxReplicas": REPLICAS[1],
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
        },
    )
