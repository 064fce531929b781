"""Compares the parts of deploy/values.yaml that are Kubernetes' own with Kubernetes' schemas: `make schemas`.

Dagster's chart copies them into the pod of the code location and into the pods of runs. What is the chart's own (names
such as `runLauncher`) only Helm with the chart can tell.
"""

import sys
from pathlib import Path

import kubernetes_validate
import yaml

VERSIONS = ("1.30", "1.37")


def manifests(values: dict) -> list[dict]:
    """The service account, and a deployment with the pod that the chart makes for the code location."""
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
        "containers": [container],
    }
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
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": account["name"], "annotations": account["annotations"]},
        },
    ]


def main() -> None:
    """Validate each manifest against each version; exit with 1 at the first that is not valid."""
    for manifest in manifests(yaml.safe_load(Path("deploy/values.yaml").read_text("utf-8"))):
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                sys.exit(f"deploy/values.yaml: {manifest['kind']} of Kubernetes {version}: {error.message}")
    sys.stdout.write(f"deploy/values.yaml: what it has of Kubernetes is valid for {' and '.join(VERSIONS)}.\n")


if __name__ == "__main__":
    main()
