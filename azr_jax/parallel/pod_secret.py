"""What a pod on Kubernetes is told in confidence, as lines that set variables in a shell.

    told="$(python -m azr_jax.parallel.pod_secret azr-env)" && set -a && eval "$told" && set +a

It is a Secret of the pod's namespace, asked of the cluster by the account that the pod runs as, which has to be allowed
to `get` it (tpu/gke sees to both). So it stands in no manifest, on no command line, and in no log. xpk, which writes
the manifest, can name no Secret in it.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")  # Kubernetes lays its token into every pod


class NotTold(RuntimeError):
    """There is no such Secret, or this pod may not read it; one line."""


def asked(name: str, server: str, account: Path = ACCOUNT) -> dict[str, str]:
    """The values of the Secret."""
    namespace, token = ((account / each).read_text().strip() for each in ("namespace", "token"))
    url = f"{server}/api/v1/namespaces/{namespace}/secrets/{name}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    trusted = ssl.create_default_context(cafile=account / "ca.crt") if url.startswith("https:") else None
    try:
        with urllib.request.urlopen(request, timeout=30, context=trusted) as answer:
            data = json.load(answer).get("data") or {}
    except OSError as error:
        why = f"{error.code} {error.reason}" if isinstance(error, urllib.error.HTTPError) else error
        raise NotTold(f"the Secret {name} of {namespace} cannot be read: {why}; tpu/gke makes it") from None
    return {key: base64.b64decode(value).decode() for key, value in sorted(data.items())}


def main(name: str) -> None:
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        told = asked(name, f"https://{host}:{port}")
    except (NotTold, OSError) as error:
        sys.exit(f"error: {error}")
    for key, value in told.items():
        print(f"{key}={shlex.quote(value)}")


if __name__ == "__main__":
    main(sys.argv[1])
