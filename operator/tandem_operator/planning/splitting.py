"""Which share of the traffic each version is to have, and in which order they own the buckets of the split."""

from tandem_api.inference_service import InferenceService, VersionSpec


def split(service: InferenceService, challenger: int | None = None) -> tuple[tuple[VersionSpec, int], ...]:
    """Each version with its percent of the traffic; they sum to 100.

    In an experiment the challenger comes last, so that its share grows and shrinks at one end of the buckets. It has
    `challenger` percent; where that is not given, its fixed share, or nothing where it has steps.
    """
    versions, experiment = service.spec.versions, service.spec.experiment
    if experiment is None:
        if len(versions) == 1:
            return ((versions[0], 100),)
        return tuple((version, version.weight or 0) for version in versions)
    share = challenger if challenger is not None else experiment.weight or 0
    weights = {experiment.champion: 100 - share, experiment.challenger: share}
    ordered = sorted(versions, key=lambda version: version.name == experiment.challenger)
    return tuple((version, weights.get(version.name, 0)) for version in ordered)
