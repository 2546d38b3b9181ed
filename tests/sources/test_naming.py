"""Names of remote files, and of folders in a cache."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_engine.sources.errors import UnsafeName
from tandem_engine.sources.naming import entry_name, safe_name


@given(
    st.lists(st.sampled_from(["..", ".", "", "a", "b.json", "\\", "\0", "\n", "~", "x" * 251]), min_size=1, max_size=5)
)
def test_a_name_stays_inside_of_the_folder_or_is_refused(parts: list[str]) -> None:
    name = "/".join(parts)
    folder = Path("/models/tiny")
    try:
        safe_name(name, "hf://org/model")
    except UnsafeName:
        assert set(parts) - {"a", "b.json", "~"}
    else:
        assert (folder / name).resolve().relative_to(folder) == Path(name)


@given(st.text(max_size=40), st.text(max_size=40))
def test_different_content_has_different_folders(one: str, other: str) -> None:
    assert (entry_name(one) == entry_name(other)) == (one == other)


@given(st.text(max_size=300))
def test_an_entry_is_one_plain_folder_name(key: str) -> None:
    assert safe_name(entry_name(key), "cache") == Path(entry_name(key)).name
    assert len(entry_name(key)) < 100


@pytest.mark.parametrize("name", ["config.json", "1_Pooling/config.json", "modèle.safetensors"])
def test_plain_names_are_kept(name: str) -> None:
    assert safe_name(name, "hf://org/model") == name
