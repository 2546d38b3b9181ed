"""A router with a prefill and a decode worker of virtual engines, as programs, and a virtual model in front of them."""

from collections.abc import Iterator

import anthropic
import openai
import pytest

from tests.router.platforms import Platform, platform

MODELS = """
models:
- {id: onwards, type: proxy, delegateModel: sky}
"""


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("surfaces")
    (folder / "models.yaml").write_text(MODELS)
    options = ("--virtual-models", str(folder / "models.yaml"), "--virtual-listed")
    with platform(folder, "prefill-0", "decode-0", router_options=options) as here:
        yield here


@pytest.fixture(scope="session")
def claude(pair: Platform) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=pair.url, api_key="local", max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def gpt(pair: Platform) -> Iterator[openai.OpenAI]:
    with pair.openai() as client:
        yield client
