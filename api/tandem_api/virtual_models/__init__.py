"""Virtual models as people declare them: in a file, in the chart's values, through the admin API."""

from tandem_api.virtual_models.loading import load_models
from tandem_api.virtual_models.spec import VirtualModelSpec, VirtualModelsSpec, as_declared

__all__ = ["VirtualModelSpec", "VirtualModelsSpec", "as_declared", "load_models"]
