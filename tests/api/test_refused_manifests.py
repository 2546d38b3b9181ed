"""What is wrong in a manifest is refused, with its path and what would be right."""

import pytest
import yaml
from tandem_api.manifest import ManifestError, load

from tests.api.refused import REFUSED, Refused, good


def test_the_manifest_that_the_others_are_made_from_is_taken() -> None:
    (service,) = load(yaml.safe_dump(good()))
    assert service.model == "llama"


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_a_manifest_is_refused_for(case: Refused) -> None:
    with pytest.raises(ManifestError) as raised:
        load(yaml.safe_dump(case.manifest()))
    assert [(finding.path, case.says in finding.message) for finding in raised.value.findings] == [(case.path, True)]
