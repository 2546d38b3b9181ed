"""The API server, as the operator uses it: kinds, paths, writes and their errors."""

from tandem_operator.cluster.client import FIELD_MANAGER, Cluster, connect
from tandem_operator.cluster.errors import ApiError, Conflict, Ending, NotFound, Refused, Unavailable
from tandem_operator.cluster.kinds import CHILDREN, DEPLOYMENT, EVENT, POD, SECRET, SERVICES, Kind, by_name

__all__ = [
    "CHILDREN",
    "DEPLOYMENT",
    "EVENT",
    "FIELD_MANAGER",
    "POD",
    "SECRET",
    "SERVICES",
    "ApiError",
    "Cluster",
    "Conflict",
    "Ending",
    "Kind",
    "NotFound",
    "Refused",
    "Unavailable",
    "by_name",
    "connect",
]
