"""Compares deploy/kubernetes.yaml, and the parts of deploy/values.yaml that are Kubernetes' own, with Kubernetes' schemas: `make schemas`.

Dagster's chart copies those parts into the pod of the code location and into the pods of runs. What is the chart's own (names
such as `runLauncher`) only Helm with the chart can tell.
"""

import sys
from pathlib import Path

import kubernetes_validate
import yaml

VERSIONS = ("1.30", "1.37")


def manifests(values: dict) -> list[dict]:
    """The service account, and what the chart makes of the pods: a deployment for the code location, and a job for a run."""
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    image = deployment["image"]
    container = {
        "name": deployment["name"],
        "image": f"{image['repository']}:{image['tag']}",
        "imagePullPolicy": image["pullPolicy"],
        "args": deployment["dagsterApiGrpcArgs"],
        "ports": [{"containerPort": deployment["port"]}],
        "envFrom": [{"secretRef": secret} for secret in deployment["envSecrets"]],
        **{name: deployment[name] for name in ("env", "volumeMounts", "resources", "securityContext")},
    }
    pod = {
        "serviceAccountName": values["global"]["serviceAccountName"],
        "securityContext": deployment["podSecurityContext"],
        "volumes": deployment["volumes"],
        "initContainers": deployment["initContainers"],
        "containers": [container],
    }
    of_run = values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]["podSpecConfig"]
    run = pod | {"restartPolicy": "Never", **of_run}
    labels = {"deployment": deployment["name"]}
    account = values["serviceAccount"]
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": deployment["name"]},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "run"}, "spec": {"template": {"spec": run}}},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": account["name"], "annotations": account["annotations"]},
        },
    ]


def main() -> None:
    """Validate each manifest against each version; exit with 1 at the first that is not valid."""
    of_values = manifests(yaml.safe_load(Path("deploy/values.yaml").read_text("utf-8")))
    beside = yaml.safe_load_all(Path("deploy/kubernetes.yaml").read_text("utf-8"))
    for file, its_manifests in (("deploy/values.yaml", of_values), ("deploy/kubernetes.yaml", list(beside))):
        for manifest in its_manifests:
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(manifest, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    sys.exit(f"{file}: {manifest['kind']} of Kubernetes {version}: {error.message}")
        kinds = ", ".join(manifest["kind"] for manifest in its_manifests)
        sys.stdout.write(f"{file}: valid for Kubernetes {' and '.join(VERSIONS)}: {kinds}.\n")


if __name__ == "__main__":
    main()
