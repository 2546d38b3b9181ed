"""What routing needs to know of a request's body: read once, everything else skipped over and left to the worker."""

from dataclasses import dataclass
from typing import Final

import msgspec
from tandem_proto.protocol import EMBEDDINGS, MESSAGES, RESPONSES
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_router.frontends.shapes import AnthropicShape, OpenAiShape, ResponsesShape, Shape

BYTES_PER_TOKEN: Final = 4
"""Of prompt JSON, for estimates; a tokeniser is the worker's."""


@dataclass(frozen=True, slots=True)
class Frontend:
    """One inference path: what the worker is told and what the answer is called."""

    path: str
    api: "pb.Api.ValueType"
    operation: str
    """`gen_ai.operation.name` of OpenTelemetry."""
    id_prefix: str
    shape: Shape
    """Of failures."""
    feature: str = ""
    """Of the workers that know this API kind; empty: all do."""
    decodes_alone: bool = False
    """Nothing is generated: no prefill worker has a part in it."""


CHAT: Final = Frontend("/v1/chat/completions", pb.API_CHAT_COMPLETIONS, "chat", "chatcmpl-", OpenAiShape())
COMPLETIONS: Final = Frontend("/v1/completions", pb.API_COMPLETIONS, "text_completion", "cmpl-", OpenAiShape())
RESPONSES_API: Final = Frontend("/v1/responses", pb.API_RESPONSES, "chat", "resp_", ResponsesShape(), RESPONSES)
MESSAGES_API: Final = Frontend("/v1/messages", pb.API_MESSAGES, "chat", "msg_", AnthropicShape(), MESSAGES)
COUNT_TOKENS: Final = Frontend(
    "/v1/messages/count_tokens",
    pb.API_COUNT_TOKENS,
    "count_tokens",
    "msgcount_",
    AnthropicShape(),
    MESSAGES,
    decodes_alone=True,
)
EMBEDDINGS_API: Final = Frontend(
    "/v1/embeddings", pb.API_EMBEDDINGS, "embeddings", "embd-", OpenAiShape(), EMBEDDINGS, decodes_alone=True
)
FRONTENDS: Final = (CHAT, COMPLETIONS, RESPONSES_API, MESSAGES_API, COUNT_TOKENS, EMBEDDINGS_API)


class _Metadata(msgspec.Struct, gc=False):
    user_id: str | None = None


_METADATA: Final = msgspec.json.Decoder(_Metadata)


class Wanted(msgspec.Struct, gc=False):
    """The members that routing reads of a request to any API. What makes up the prompt stays JSON."""

    model: str
    stream: bool | None = None
    user: str | None = None
    metadata: msgspec.Raw = msgspec.Raw()
    """Messages' name for the user is in it."""
    system: msgspec.Raw = msgspec.Raw()
    """Of Messages."""
    instructions: msgspec.Raw = msgspec.Raw()
    """Of Responses."""
    messages: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    """Of Responses and Embeddings."""

    @property
    def prompt_json(self) -> bytes:
        """Bytes that grow with the prompt and are equal where prompts begin equally."""
        conversation = bytes(self.messages or self.prompt or self.input)
        before = self.system or self.instructions
        return bytes(before) + conversation if before else conversation

    @property
    def user_name(self) -> str:
        """Whom the request says it is for; empty where it says nothing, or something else than a name."""
        if self.user is not None or not self.metadata:
            return self.user or ""
        try:
            return _METADATA.decode(self.metadata).user_id or ""
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""


class InvalidBody(Exception):
    """The body can't be read: 400. `param` is the member to blame, if it is one."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


_DECODER: Final = msgspec.json.Decoder(Wanted)


def parse(body: bytes) -> Wanted:
    """Reads a body.

    Raises:
        InvalidBody: it is not JSON, not an object, has no model, or a wrong type where routing looks.
    """
    try:
        return _DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidBody("invalid request body: it is not valid JSON") from None


def _explain(error: str) -> InvalidBody:
    """Msgspec says "Expected `str`, got `int` - at `$.model`"; clients know their members by bare name."""
    what, _, where = error.partition(" - at `$")
    member = where.strip("`.")
    if "missing required field" in what:
        return InvalidBody("you must provide a model parameter", "model")
    if not member:
        return InvalidBody("invalid request body: it must be a JSON object")
    return InvalidBody(f"invalid value of {member}: {what[0].lower()}{what[1:].replace('`', '')}", member)


def estimate_tokens(prompt_json: bytes) -> int:
    """Tokens that a prompt may have, from its bytes."""
    return -(-len(prompt_json) // BYTES_PER_TOKEN)
