"""The key that the operator shows to routers."""

from pathlib import Path

import pytest
from tandem_operator.settings import RouterSettings, load


def test_the_operator_shows_what_is_in_the_file_that_its_settings_name(tmp_path: Path) -> None:
    (tmp_path / "service-key").write_text("tandem_0123456789\n")
    (tmp_path / "settings.yaml").write_text(f"router: {{serviceKeyFile: {tmp_path / 'service-key'}}}")
    assert load(tmp_path / "settings.yaml").router.headers() == {"Authorization": "Bearer tandem_0123456789"}


def test_without_a_file_it_shows_nothing() -> None:
    assert RouterSettings().headers() == {}


def test_a_file_that_is_not_there_ends_it_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="service-key can't be read"):
        RouterSettings(service_key_file=tmp_path / "service-key").headers()
