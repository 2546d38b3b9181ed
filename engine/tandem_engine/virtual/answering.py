"""How a virtual model's tokens become an answer: stop strings, log probabilities, events or one body.

Everything here is called from the step loop, once for each token of each choice, and hands bytes straight to the
call's reply: no task wakes up for a token.
"""

import asyncio
from collections.abc import Callable
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field
from typing import Protocol

from tandem_api.openai.answers import (
    JSON_TYPE,
    STREAM_TYPE,
    Choice,
    Encoder,
    FunctionCall,
    TokenLogprob,
    UsageCount,
    escape,
)
from tandem_proto.protocol import PIECE_BYTES
from tandem_proto.tandem.v1 import worker_pb2
from tandem_virtual.mixing import mix
from tandem_virtual.structured import instance
from tandem_virtual.text import Continuation, continuation
from tandem_virtual.tokens import FIRST_WORD, Tokenizer

from tandem_engine.engine import Reply
from tandem_engine.virtual.jobs import Job
from tandem_engine.virtual.planning import Sequence


class Script(Protocol):
    """What a choice will say, token by token."""

    @property
    def length(self) -> int: ...

    def token(self, position: int) -> int: ...

    def logprob(self, position: int) -> float: ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """A script that is written out: a structured answer."""

    tokens: Ordered[int]

    @property
    def length(self) -> int:
        return len(self.tokens)

    def token(self, position: int) -> int:
        return self.tokens[position]

    def logprob(self, position: int) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class Voice:
    """How this engine speaks, the same for all calls."""

    tokenizer: Tokenizer
    seed: int
    mean_length: int

    def script(self, job: Job, state: int, index: int) -> Script:
        """The answer to a prompt with this KV state. At temperature 0 no seed of the request matters."""
        greedy = not job.sampling.temperature
        seed = mix(self.seed) if greedy else mix(self.seed, job.sampling.seed or 0, index)
        if job.structure is not None:
            return Fixed(self.tokenizer.encode(instance(job.structure, mix(state, seed))))
        return continuation(state, seed, self.mean_length)


class StopFinder:
    """Finds the first of some strings in a text that comes in pieces, and holds back what may be a beginning of one."""

    def __init__(self, stops: Ordered[str]) -> None:
        self.found = ""
        """The one that was found."""
        self._stops = stops
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """The text that is safe to say, and whether a stop string came right after it."""
        self._held += text
        places = [(place, stop) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            place, self.found = min(places)
            return self._held[:place], True
        keep = max(
            (size for stop in self._stops for size in range(1, len(stop)) if self._held.endswith(stop[:size])),
            default=0,
        )
        said, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return said, False

    def rest(self) -> str:
        """What was held back, at the end."""
        return self._held


@dataclass(slots=True, eq=False)
class ChoiceAnswer:
    """One choice of a call: the consumer of one sequence."""

    call: "Answer"
    index: int
    script: Script | None = None
    length: int = 0
    finish_reason: str = ""
    stop: str = ""
    """The stop string that ended it."""
    said: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    generated: int = 0
    stops: StopFinder | None = None
    ahead: bytes = b""
    """The next event of a plain stream, written while its step runs: at the step's end there is only to send."""

    def admitted(self, sequence: Sequence) -> None:
        self.call.note_admitted(sequence)

    def prompt_done(self, sequence: Sequence) -> bool:
        if self.script is None:
            self.knows(self.call.state_of(sequence), sequence)
        return False

    def knows(self, state: int, sequence: Sequence) -> None:
        """The prompt's KV is known: with it, all that this choice will say."""
        job = self.call.job
        script = self.script = self.call.voice.script(job, state, self.index)
        room = self.call.max_model_len - len(sequence.prompt)
        limit = min(job.sampling.max_tokens or room, room)
        natural = max(script.length, job.sampling.min_tokens)
        if isinstance(script, Continuation) and job.sampling.ignore_eos:
            natural = limit + 1
        if isinstance(script, Fixed):
            natural = script.length
        self.length = min(natural, limit)
        ended = "tool_calls" if job.function else "stop"
        self.finish_reason = ended if natural <= limit else "length"
        if job.sampling.stop and not job.function:
            self.stops = StopFinder(job.sampling.stop)

    def foresee(self, sequence: Sequence) -> None:
        if self.call.plain and self.script is not None:
            self.ahead = self._plain(self.script.token(sequence.generated))

    def token(self, sequence: Sequence) -> bool:
        script = self.script
        assert script is not None
        self.generated = sequence.generated
        position = sequence.generated - 1
        last = sequence.generated >= self.length
        if not position:
            self.call.first_token(self)
        if not self.call.plain:
            return self._careful(script, position, last)
        self.call.reply.data(self.ahead or self._plain(script.token(position)))
        self.ahead = b""
        return last

    def over(self, sequence: Sequence) -> None:
        self.call.choice_over(self)

    def _plain(self, token: int) -> bytes:
        # Words need no escaping, and what is not a word is never said plainly.
        return self.call.encoder.text(self.index, self.call.voice.tokenizer.token_bytes(token))

    def _careful(self, script: Script, position: int, last: bool) -> bool:
        """The way of all that is not plain streamed words."""
        token = script.token(position)
        text = self.call.voice.tokenizer.decode((token,))
        if self.stops is not None:
            text, found = self.stops.feed(text)
            if found:
                self.finish_reason, self.stop, last = "stop", self.stops.found, True
            elif last:
                text += self.stops.rest()
        told = [self._told(script, position, token)] if self.call.job.logprobs is not None else []
        self.logprobs += told
        self.said.append(text)
        if self.call.job.stream and (text or told):
            self.call.say_carefully(self, text, told)
        return last

    def _told(self, script: Script, position: int, token: int) -> TokenLogprob:
        tokenizer = self.call.voice.tokenizer
        logprob = script.logprob(position)
        raw = tokenizer.token_bytes(token)
        own = TokenLogprob(raw.decode("utf-8", "replace"), raw, logprob)
        others = []
        for rank in range(1, self.call.job.logprobs or 0):
            raw = tokenizer.token_bytes(FIRST_WORD + (token - FIRST_WORD + 5 * rank) % 1000)
            others.append(TokenLogprob(raw.decode(), raw, logprob - rank))
        top = (own, *others) if self.call.job.logprobs else ()
        return TokenLogprob(own.token, own.raw, own.logprob, top)


class Answer:
    """One call's answer, over all its choices.

    Args:
        job: what was asked.
        encoder: writes it.
        reply: takes it.
        voice: speaks.
        max_model_len: tokens of prompt and answer.
        prompt_state: what the answer follows from, once a sequence's prompt is computed.
        clock: seconds.
    """

    def __init__(
        self,
        job: Job,
        encoder: Encoder,
        reply: Reply,
        voice: Voice,
        max_model_len: int,
        prompt_state: Callable[[Sequence], int],
        clock: Callable[[], float],
    ) -> None:
        self.job = job
        self.voice = voice
        self.max_model_len = max_model_len
        careful = job.sampling.stop or job.logprobs is not None or job.structure is not None or job.response is not None
        self.plain = job.stream and not careful
        self.state_of = prompt_state
        self.choices = [ChoiceAnswer(self, index) for index in range(len(job.prompts) * job.choices)]
        self.admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.report = worker_pb2.KvReport(outcome=worker_pb2.KvReport.WHOLE)
        self.admitted_at: float | None = None
        self.first_token_at: float | None = None
        self.cached = 0
        self.encoder = encoder
        self.reply = reply
        self._clock = clock
        self._open = len(self.choices)

    @property
    def usage(self) -> UsageCount:
        return UsageCount(
            prompt=sum(len(prompt) for prompt in self.job.prompts),
            completion=sum(choice.generated for choice in self.choices),
            cached=self.cached,
        )

    def note_admitted(self, sequence: Sequence) -> None:
        if self.admitted_at is None:
            self.admitted_at = self._clock()
            self.cached = sequence.reused
        if not self.admitted.done():
            self.admitted.set_result(None)

    def first_token(self, choice: ChoiceAnswer) -> None:
        if self.first_token_at is None:
            self.first_token_at = self._clock()
            self.reply.started(200, STREAM_TYPE if self.job.stream else JSON_TYPE, 0, self.report)
        if self.job.stream and (opening := self.encoder.opening(choice.index)):
            self.reply.data(opening)

    def say_carefully(self, choice: ChoiceAnswer, text: str, logprobs: Ordered[TokenLogprob]) -> None:
        if logprobs:
            self.reply.data(self.encoder.detailed(choice.index, text, logprobs))
        else:
            self.reply.data(self.encoder.text(choice.index, escape(text)))

    def choice_over(self, choice: ChoiceAnswer) -> None:
        self._open -= 1
        end = b""
        if self.job.stream:
            end = self.encoder.closing(self._written(choice))
            if not self._open:
                end += self.encoder.ending(self.usage)
            self.reply.data(end)
        elif not self._open:
            self._send_body()
        if not self._open and not self.done.done():
            self.done.set_result(None)

    def _send_body(self) -> None:
        body = self.encoder.body([self._written(choice) for choice in self.choices], self.usage)
        for at in range(0, len(body), PIECE_BYTES):
            self.reply.data(body[at : at + PIECE_BYTES])

    def _written(self, choice: ChoiceAnswer) -> Choice:
        text = "".join(choice.said)
        logprobs = choice.logprobs if self.job.logprobs is not None else None
        call = FunctionCall(self.job.function, text) if self.job.function else None
        return Choice(choice.index, text, choice.finish_reason, logprobs, call, choice.stop)
