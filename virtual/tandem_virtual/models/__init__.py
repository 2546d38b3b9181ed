"""The types of virtual models. A model is a value: what it answers follows from it and the request alone.

The one exception is a sequence, which counts its requests.
"""

from tandem_virtual.models.failures import Ending, Failure, Stage
from tandem_virtual.models.model import Act, Forwards, Says, VirtualModel
from tandem_virtual.models.proxies import ProxyModel
from tandem_virtual.models.sequences import Exhaustion, SequenceModel, Step
from tandem_virtual.models.statics import StaticModel
from tandem_virtual.models.tools import Function, ToolModel

__all__ = [
    "Act",
    "Ending",
    "Exhaustion",
    "Failure",
    "Forwards",
    "Function",
    "ProxyModel",
    "Says",
    "SequenceModel",
    "Stage",
    "StaticModel",
    "Step",
    "ToolModel",
    "VirtualModel",
]
