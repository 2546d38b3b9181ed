"""The kinds of objects that the operator reads or writes, and where an API server keeps them."""

from dataclasses import dataclass
from typing import Final

from tandem_api.crd import PLURAL
from tandem_api.inference_service import GROUP, KIND, VERSION


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object in one version of its API."""

    group: str
    """Empty for the core API."""
    version: str
    name: str
    """As in `kind: Deployment`."""
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """Of the collection, or of one object, or of a part of it. Without namespace: over all, or cluster-wide."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace:
            parts += ["namespaces", namespace]
        return "/" + "/".join([*parts, self.plural, *(part for part in (name, subresource) if part)])


SERVICES: Final = Kind(GROUP, VERSION, KIND, PLURAL)
POD: Final = Kind("", "v1", "Pod", "pods")
DEPLOYMENT: Final = Kind("apps", "v1", "Deployment", "deployments")
EVENT: Final = Kind("", "v1", "Event", "events")
SECRET: Final = Kind("", "v1", "Secret", "secrets")

CHILDREN: Final[tuple[Kind, ...]] = (
    DEPLOYMENT,
    Kind("", "v1", "Service", "services"),
    Kind("", "v1", "ConfigMap", "configmaps"),
    Kind("", "v1", "ServiceAccount", "serviceaccounts"),
    Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
)
"""What a service owns, but for pods, which belong to its Deployments."""

_BY_NAME: Final = {kind.name: kind for kind in (*CHILDREN, POD, SERVICES)}


def by_name(name: str) -> Kind:
    """The kind that is called so.

    Raises:
        KeyError: the operator has no business with such objects.
    """
    return _BY_NAME[name]
