"""Writes plain manifests for kustomize: the Helm chart with its default values.

usage: python tools/manifests.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["CHART", "KUBERNETES", "RULES", "files", "render", "values"]

ROOT: Final = Path(__file__).resolve().parents[1]
KUBERNETES: Final = ROOT / "deploy" / "kubernetes"
CHART: Final = KUBERNETES / "chart"
RULES: Final = ROOT / "deploy" / "prometheus" / "rules.yml"
RENDERER: Final = ROOT / "tools" / "helm_template" / "main.go"

NAME: Final = "odin-ws"
HEAD: Final = "# Written by `python tools/manifests.py` from ../chart, which explains it.\n"

# The folders of optional kinds, which not every cluster supports.
FOLDERS: Final = {
    "HorizontalPodAutoscaler": "autoscaling",
    "PrometheusRule": "monitoring",
    "ServiceMonitor": "monitoring",
}

KUSTOMIZE: Final = "kustomize.config.k8s.io"

# The autoscaler sets the number of pods: an applied file must not override it.
WITHOUT_REPLICAS: Final = {
    "target": {"kind": "Deployment", "name": NAME},
    "patch": yaml.safe_dump([{"op": "remove", "path": "/spec/replicas"}]),
}


def values(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the chart's values, with changes merged as by Helm."""
    return _merged(yaml.safe_load((CHART / "values.yaml").read_text("utf-8")), changes or {})


def _merged(given: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(given)
    for name, value in changes.items():
        old = merged.get(name)
        both = isinstance(old, dict) and isinstance(value, Mapping)
        merged[name] = _merged(old or {}, value) if both else value
    return merged


def render(changes: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return the objects of the chart.

    Raises:
        FileNotFoundError: Go is not installed.
        ValueError: the chart or a value is invalid; the message says why.
    """
    done = subprocess.run(  # noqa: S603 -- the program is ours
        ["go", "run", str(RENDERER), str(CHART), NAME],  # noqa: S607 -- whichever Go there is
        input=json.dumps(values(changes)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(done.stderr)
    return [one for one in yaml.safe_load_all(done.stdout) if one is not None]


def files() -> dict[str, str]:
    """Return the files by their paths in deploy/kubernetes: one for each object, and lists."""
    folders: dict[str, dict[str, str]] = {"base": {}, "monitoring": {}, "autoscaling": {}}
    objects = render()
    scaled = render({"autoscaling": {"enabled": True}})
    objects += [one for one in scaled if one["kind"] == "HorizontalPodAutoscaler"]
    for one in objects:
        folder = folders[FOLDERS.get(one["kind"], "base")]
        suffix = one["metadata"]["name"].removeprefix(NAME)
        folder[f"{one['kind'].lower()}{suffix}.yaml"] = _dumped(one)
    found: dict[str, str] = {}
    for folder_name, texts in folders.items():
        found |= {f"{folder_name}/{name}": text for name, text in texts.items()}
        found[f"{folder_name}/kustomization.yaml"] = _dumped(_list(folder_name, sorted(texts)))
    return found


def _list(folder: str, resources: list[str]) -> dict[str, Any]:
    if folder != "autoscaling":
        version = f"{KUSTOMIZE}/v1beta1"
        return {"apiVersion": version, "kind": "Kustomization", "resources": resources}
    return {
        "apiVersion": f"{KUSTOMIZE}/v1alpha1",
        "kind": "Component",
        "resources": resources,
        "patches": [WITHOUT_REPLICAS],
    }


def _dumped(value: Any) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, width=1000)
    return HEAD + text


def main() -> int:
    """Write the files, and the chart's copy of the alert rules."""
    (CHART / "files" / "rules.yml").write_text(RULES.read_text("utf-8"), "utf-8")
    for name, text in files().items():
        file = KUBERNETES / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
