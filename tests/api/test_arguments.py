"""Which arguments of `vllm serve` Tandem owns."""

import pytest
from pydantic import ValidationError
from tandem_api.inference_service import EngineSpec
from tandem_api.inference_service.arguments import OWNED


@pytest.mark.vllm
def test_every_owned_argument_is_one_of_vllms() -> None:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    known = {flag for action in make_arg_parser(FlexibleArgumentParser())._actions for flag in action.option_strings}
    assert set(OWNED) - known == set()


@pytest.mark.parametrize("flag", OWNED)
def test_an_owned_argument_is_refused_with_what_to_do(flag: str) -> None:
    with pytest.raises(ValidationError, match=r"must not set .*: "):
        EngineSpec(args=("--seed=1", f"{flag}=1"))


@pytest.mark.parametrize(
    "argument", ["--model-impl=vllm", "--max-model-len=32768", "--hf-overrides.a=1", "--tokenizer=x", "1"]
)
def test_an_argument_that_only_looks_like_an_owned_one_is_taken(argument: str) -> None:
    assert EngineSpec(args=(argument,)).args == (argument,)
