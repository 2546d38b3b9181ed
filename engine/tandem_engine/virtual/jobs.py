"""From a call's body to what the virtual engine computes: the edge at which bad input is refused."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tandem_api.as_chat import messages_as_chat, responses_as_chat
from tandem_api.openai.answers import Encoder, compact
from tandem_api.openai.chat import ChatEncoder, ChatRequest, Message
from tandem_api.openai.completions import CompletionEncoder, CompletionRequest, Prompt
from tandem_api.openai.requests import RequestError, Sampling, SamplingRequest, parse, sampling
from tandem_api.spoken import SpokenMessage, SpokenResponse
from tandem_api.surfaces import Messages, Responses
from tandem_proto.tandem.v1 import worker_pb2
from tandem_virtual.structured import instance
from tandem_virtual.tokens import MAX_TOKEN_BYTES, Mark, Tokenizer

from tandem_engine.engine import Call
from tandem_engine.errors import InvalidRequest, NotFound


@dataclass(frozen=True, slots=True)
class Job:
    """A call, understood."""

    prompts: tuple[Sequence[int], ...]
    """Token ids."""
    choices: int
    """Of each prompt."""
    sampling: Sampling
    stream: bool
    include_usage: bool
    logprobs: int | None
    """Alternatives to report for each token; None: no log probabilities."""
    cache_salt: str
    whole: str
    """Why a KV transfer can't carry this call; empty: it can."""
    structure: dict[str, object] | None = None
    """A JSON schema that the answer fits."""
    function: str = ""
    """The answer is a call of this function; `structure` is of its arguments."""
    echoes: tuple[str, ...] = ()
    """Texts that go before each choice."""
    response: Mapping[str, Any] | None = None
    """The JSON of a request of Responses: its events are numbered, so that none can be written ahead."""


class JobReader:
    """Reads bodies for one model.

    Args:
        model: the name that clients use.
        max_model_len: tokens of prompt and answer.
        max_tokens: the platform's cap.
        tokenizer: text to ids.
    """

    def __init__(self, model: str, max_model_len: int, max_tokens: int, tokenizer: Tokenizer) -> None:
        self._model = model
        self._max_model_len = max_model_len
        self._max_tokens = max_tokens
        self._tokenizer = tokenizer

    def read(self, call: Call) -> Job:
        """Parses and checks a call. All APIs end in chat's template, so that one conversation is one prompt.

        Raises:
            InvalidRequest: the body can't be served; the text says what is wrong.
            NotFound: it asks for another model.
        """
        try:
            match call.api:
                case worker_pb2.API_CHAT_COMPLETIONS:
                    return self._chat(parse(ChatRequest, call.body))
                case worker_pb2.API_COMPLETIONS:
                    return self._completion(parse(CompletionRequest, call.body))
                case worker_pb2.API_MESSAGES:
                    ask = Messages().read(call.body)
                    return self._chat(parse(ChatRequest, compact(messages_as_chat(ask)).encode()))
                case worker_pb2.API_COUNT_TOKENS:
                    ask = Messages().read_count(call.body)
                    return self._chat(parse(ChatRequest, compact(messages_as_chat(ask)).encode()))
                case worker_pb2.API_RESPONSES:
                    ask = Responses().read(call.body)
                    job = self._chat(parse(ChatRequest, compact(responses_as_chat(ask)).encode()))
                    return replace(job, response=ask.given)
                case _:
                    raise InvalidRequest("this worker does not serve this API")
        except RequestError as error:
            raise InvalidRequest(error.message, param=error.param) from None

    def _chat(self, request: ChatRequest) -> Job:
        self._check(request)
        prompt = self._template(request)
        structure, function = _structure(request)
        if structure is not None:
            _probe(structure)
        return Job(
            prompts=(self._fitting(prompt, "messages"),),
            choices=request.choices,
            sampling=sampling(request, cap=self._max_tokens, max_tokens=request.max_completion_tokens),
            stream=bool(request.stream),
            include_usage=request.stream_options is not None and request.stream_options.include_usage,
            logprobs=request.wanted_logprobs if structure is None else None,
            cache_salt=request.cache_salt or "",
            whole="n" if request.choices > 1 else "",
            structure=structure,
            function=function,
        )

    def _completion(self, request: CompletionRequest) -> Job:
        self._check(request)
        prompts = tuple(self._fitting(self._tokens(prompt), "prompt") for prompt in request.prompts)
        whole = "prompts" if len(prompts) > 1 else "n" if request.choices > 1 else "echo" if request.echo else ""
        echoes = [self._tokenizer.decode(prompt) for prompt in prompts] if request.echo else []
        return Job(
            prompts=prompts,
            choices=request.choices,
            sampling=sampling(request, cap=self._max_tokens),
            stream=bool(request.stream),
            include_usage=request.stream_options is not None and request.stream_options.include_usage,
            logprobs=request.wanted_logprobs,
            cache_salt=request.cache_salt or "",
            whole=whole,
            echoes=tuple(echo for echo in echoes for _ in range(request.choices)),
        )

    def _check(self, request: SamplingRequest) -> None:
        if request.model is not None and request.model != self._model:
            raise NotFound(f"the model {request.model!r} is not served here", param="model")
        if request.prompt_logprobs is not None:
            raise InvalidRequest("the virtual engine has no prompt_logprobs", param="prompt_logprobs")

    def _tokens(self, prompt: Prompt) -> Sequence[int]:
        if not isinstance(prompt, str):
            return prompt
        # Refused before it is tokenised: a prompt that can't fit must not cost the time of one that does.
        if len(prompt.encode("utf-8", "replace")) > self._max_model_len * MAX_TOKEN_BYTES:
            raise self._too_long("more than that", "prompt")
        return self._tokenizer.encode(prompt)

    def _fitting(self, prompt: Sequence[int], param: str) -> Sequence[int]:
        if len(prompt) >= self._max_model_len:
            raise self._too_long(str(len(prompt)), param)
        return prompt

    def _too_long(self, count: str, param: str) -> InvalidRequest:
        return InvalidRequest(
            f"this model's maximum context length is {self._max_model_len} tokens, of prompt and answer together; "
            f"the prompt has {count}",
            param=param,
        )

    def _template(self, request: ChatRequest) -> list[int]:
        """A chat template: marks between roles and contents, then the beginning of the assistant's message."""
        tokens: list[int] = []
        if request.tools:
            tokens += [Mark.TOOLS, *self._tokens(compact([tool.model_dump() for tool in request.tools]))]
        for message in request.messages:
            tokens += [Mark.MESSAGE, *self._tokens(message.role), Mark.CONTENT]
            tokens += self._content(message)
            tokens.append(Mark.END)
        return [*tokens, Mark.MESSAGE, *self._tokens("assistant"), Mark.CONTENT]

    def _content(self, message: Message) -> list[int]:
        tokens: list[int] = []
        text = "".join(part.text for part in message.content if part.text is not None)
        for about in (message.name, message.tool_call_id):
            if about:
                tokens += [*self._tokens(about), Mark.CONTENT]
        tokens += self._tokens(text)
        for part in message.content:
            if part.image_url is not None:
                seen = hashlib.sha256(part.image_url.url.encode("utf-8", "replace")).hexdigest()[:24]
                tokens += [Mark.IMAGE, *self._tokens(seen)]
        for made in message.tool_calls or ():
            tokens += [Mark.TOOLS, *self._tokens(compact([made.function.name, made.function.arguments]))]
        return tokens


def encoder(job: Job, call: Call, model: str, created: int) -> Encoder:
    """What writes the answer in the call's own API."""
    if job.response is not None:
        return SpokenResponse(call.response_id, model, created, job.response, function=job.function)
    if call.api == worker_pb2.API_MESSAGES:
        prompt_tokens = len(job.prompts[0])
        return SpokenMessage(call.response_id, model, prompt_tokens=prompt_tokens, function=job.function)
    if call.api == worker_pb2.API_CHAT_COMPLETIONS:
        return ChatEncoder(call.response_id, model, created, include_usage=job.include_usage, function=job.function)
    return CompletionEncoder(call.response_id, model, created, include_usage=job.include_usage, echoes=job.echoes)


def _structure(request: ChatRequest) -> tuple[dict[str, object] | None, str]:
    """The schema that the answer fits, and the function it calls. With `auto` a virtual model talks and calls none."""
    choice = request.tool_choice
    if choice is not None and choice.type in ("required", "function") and request.tools:
        wanted = choice.function.name if choice.function else request.tools[0].function.name
        tool = next(tool.function for tool in request.tools if tool.function.name == wanted)
        return dict(tool.parameters or {"type": "object"}), tool.name
    form = request.response_format
    if form is not None and form.type == "json_object":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}, ""
    if form is not None and form.json_schema is not None:
        return dict(form.json_schema.schema_), ""
    return None, ""


def _probe(schema: dict[str, object]) -> None:
    """Refuses a schema that nothing can be made of, while that can still be a 400."""
    try:
        instance(schema, 0)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, OverflowError):
        raise InvalidRequest("the JSON schema is not one that the virtual engine understands") from None
