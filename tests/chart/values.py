"""Values of the chart for tests: one with every option on, and small ones to combine."""

from typing import Any, Final

EVERYTHING: Final[dict[str, Any]] = {
    "commonLabels": {"team": "serving"},
    "imagePullSecrets": [{"name": "acme"}],
    "tls": {"secretName": "tandem-tls"},
    "otlpEndpoint": "http://collector:4317",
    "router": {
        "autoscaling": {"enabled": True},
        "serverTiming": True,
        "extraArgs": ["--max-unsent-bytes=4096"],
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "hosts": ["llm.example"],
            "tls": [{"secretName": "llm", "hosts": ["llm.example"]}],
        },
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["llm.example"]},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "nodeSelector": {"pool": "cpu"},
        "priorityClassName": "high",
        "podLabels": {"mesh": "off"},
        "podAnnotations": {"note": "x"},
        "env": [{"name": "A", "value": "b"}],
    },
    "registry": {
        "enabled": True,
        "replicas": 2,
        "database": {"urlSecret": "postgres"},
        "storage": {"url": "s3://models/tandem", "secret": "bucket"},
        "podLabels": {"mesh": "off"},
        "podAnnotations": {"note": "z"},
        "env": [{"name": "E", "value": "f"}],
    },
    "operator": {
        "affinity": {"nodeAffinity": {}},
        "podAnnotations": {"note": "y"},
        "env": [{"name": "C", "value": "d"}],
    },
    "worker": {"env": {"HF_ENDPOINT": "https://hub.example"}},
    "monitoring": {"enabled": True, "labels": {"release": "prometheus"}, "dashboard": {"enabled": True}},
    "metricsAdapter": {"enabled": True},
}
