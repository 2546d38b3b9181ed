"""What a storm is made of, as values: requests, what their clients do, and what befalls the workers meanwhile.

Pure and seeded: the same seed gives the same storm. What comes of it depends on timing, and must be right whatever that
was.
"""

import random
from dataclasses import dataclass, replace
from typing import Any, Literal

Behaviour = Literal["read", "leave_at_once", "leave_before_first_byte", "leave_midway", "dawdle", "stall"]
"""What the client does: reads to the end; goes away right after sending, some time later, or after some events; reads
slowly; or does not read at all until it has been cut off."""

Strike = Literal["none", "kill_prefill", "kill_decode", "stop_decode"]
"""What befalls the platform while the requests run. A killed worker comes back; a stopped one stands still for longer
than a lease lives, so that those of the KV that it was to fetch expire."""


@dataclass(frozen=True)
class Ask:
    """A request whose whole answer is known: text and usage follow from it."""

    prompt: str
    seed: int
    max_tokens: int
    stream: bool
    chat: bool
    endless: bool = False
    """It ends at `max_tokens` alone, far beyond any client's patience: only a cancel ends it in time."""

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self.chat else "/v1/completions"

    def body(self, model: str) -> dict[str, Any]:
        common: dict[str, Any] = {"model": model, "seed": self.seed, "max_tokens": self.max_tokens}
        if self.stream:
            common |= {"stream": True, "stream_options": {"include_usage": True}}
        if self.endless:
            common |= {"ignore_eos": True}
        if self.chat:
            return common | {"messages": [{"role": "user", "content": self.prompt}]}
        return common | {"prompt": self.prompt}


@dataclass(frozen=True)
class Shot:
    """One client: what it asks, when (seconds into the storm), and what it does then."""

    ask: Ask
    at: float
    behaviour: Behaviour
    patience: float
    """Seconds until it leaves before its first byte; between reads where it dawdles."""
    events: int
    """How many events it reads before it leaves midway."""


@dataclass(frozen=True)
class Storm:
    """Shots and one strike."""

    seed: int
    shots: tuple[Shot, ...]
    strike: Strike
    strike_at: float
    """Seconds into the storm."""
    victim: int
    """Which of the role's workers, modulo their number."""


@dataclass(frozen=True)
class Weather:
    """How heavy storms are."""

    shots: tuple[int, int]
    """Fewest and most."""
    span: float
    """Seconds over which the shots begin."""
    prompt_words: tuple[int, int]
    max_tokens: tuple[int, int]
    kills: float
    """Share of the storms that kill a worker."""
    stops: float
    """Share of the storms that stop one."""
    stalls: float
    """Share of the storms in which a client does not read."""
    asks: int
    """Different requests in all; their answers are learned once."""
    endless_tokens: int
    """Of requests whose clients leave or stall: computing them would take longer than a storm's end is waited for."""


BEHAVIOURS: tuple[Behaviour, ...] = (
    *("read",) * 4,
    "leave_at_once",
    "leave_before_first_byte",
    *("leave_midway",) * 2,
    "dawdle",
)
WORDS = [
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heath",
    "islet",
    "jetty",
    "knoll",
    "ledge",
    "marsh",
    "north",
    "ocean",
    "plain",
]


def asks(weather: Weather) -> list[Ask]:
    """All requests that storms of this weather draw from."""
    rng = random.Random(0)
    return [
        Ask(
            prompt=" ".join(rng.choices(WORDS, k=rng.randint(*weather.prompt_words))),
            seed=rng.randrange(2**31),
            max_tokens=rng.randint(*weather.max_tokens),
            stream=rng.random() < 0.75,
            chat=rng.random() < 0.7,
        )
        for _ in range(weather.asks)
    ]


def storm(seed: int, weather: Weather, pool: list[Ask]) -> Storm:
    """The storm of this seed."""
    rng = random.Random(seed)
    shots = tuple(_shot(rng, weather, pool) for _ in range(rng.randint(*weather.shots)))
    strike: Strike = "none"
    latest = 2 * weather.span
    draw = rng.random()
    if draw < weather.kills:
        strike = rng.choice(("kill_prefill", "kill_decode"))
    elif draw < weather.kills + weather.stops:
        # Early: what comes after it shall wait for the worker.
        strike, latest = "stop_decode", weather.span / 4
    elif draw < weather.kills + weather.stops + weather.stalls:
        shots = (*shots[1:], _stalled(shots[0], weather))
    return Storm(seed, shots, strike, rng.uniform(0, latest), rng.randrange(16))


def _shot(rng: random.Random, weather: Weather, pool: list[Ask]) -> Shot:
    ask, behaviour = rng.choice(pool), rng.choice(BEHAVIOURS)
    if behaviour.startswith("leave") and rng.random() < 0.5:
        ask = _endless(ask, weather)
    return Shot(
        ask=ask,
        at=rng.uniform(0, weather.span),
        behaviour=behaviour,
        patience=rng.uniform(0, weather.span),
        events=rng.randint(1, 6),
    )


def _stalled(shot: Shot, weather: Weather) -> Shot:
    return replace(shot, ask=_endless(shot.ask, weather), behaviour="stall")


def _endless(ask: Ask, weather: Weather) -> Ask:
    return replace(ask, max_tokens=weather.endless_tokens, endless=True, stream=True)
