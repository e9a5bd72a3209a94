"""A CronJob."""

from __future__ import annotations

from typing import Any

import yaml

from core.errors import ConfigError
from pipelines.schedule.job import HARMLESS, Job
from pipelines.schema import ClusterSchema

# Wrong arguments, refused data, too few labels: the next attempt would end the same.
_FINAL = (2, 3, 4)


def kubernetes(job: Job, cluster: ClusterSchema) -> dict[str, str]:
    """No overlap; a lock held elsewhere, a stop and an eviction are retried without counting."""
    for name in ("image", "claim"):
        if getattr(cluster, name) is None:
            raise ConfigError(f"emit=k8s: missing cluster.{name}=...")
    spec = {
        "schedule": job.cron.text(),
        "timeZone": job.timezone,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": job.grace,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": {"spec": _job(job, cluster)},
    }
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": job.name, "labels": {"app.kubernetes.io/name": "longstrand"}},
        "spec": spec,
    }
    return {f"{job.name}.yaml": yaml.safe_dump(manifest, sort_keys=False, width=100)}


def _job(job: Job, cluster: ClusterSchema) -> dict[str, Any]:
    volume = {"name": "work", "persistentVolumeClaim": {"claimName": cluster.claim}}
    evicted = {"type": "DisruptionTarget", "status": "True"}
    return {
        "backoffLimit": 2,
        "activeDeadlineSeconds": cluster.deadline,
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [evicted]},
                {"action": "Ignore", "onExitCodes": _codes(HARMLESS)},
                {"action": "FailJob", "onExitCodes": _codes(_FINAL)},
            ]
        },
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 300,
                "containers": [_container(job, cluster)],
                "volumes": [volume],
            }
        },
    }


def _container(job: Job, cluster: ClusterSchema) -> dict[str, Any]:
    # A CronJob names its Job by the scheduled minute, so that a retry has the same date.
    scheduled = '-d "1970-01-01 UTC ${JOB_NAME##*-} minutes"'
    label = "metadata.labels['batch.kubernetes.io/job-name']"
    size = {"cpu": cluster.cpu, "memory": cluster.memory}
    return {
        "name": "job",
        "image": cluster.image,
        # $$( is a $( that is the shell's, not Kubernetes'.
        "command": ["/bin/sh", "-c", job.shell(scheduled).replace("$(", "$$(")],
        "workingDir": cluster.mount,
        "env": [{"name": "JOB_NAME", "valueFrom": {"fieldRef": {"fieldPath": label}}}],
        "envFrom": [{"secretRef": {"name": job.name, "optional": True}}],
        "resources": {"requests": size, "limits": {"memory": cluster.memory}},
        "volumeMounts": [{"name": "work", "mountPath": cluster.mount}],
    }


def _codes(values: tuple[int, ...]) -> dict[str, Any]:
    return {"containerName": "job", "operator": "In", "values": sorted(values)}
