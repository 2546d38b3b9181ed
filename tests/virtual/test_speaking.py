from hypothesis import given
from hypothesis import strategies as st
from tandem_virtual.mixing import mix
from tandem_virtual.text import Continuation, continuation
from tandem_virtual.tokens import MAX_TOKEN_BYTES, Tokenizer

TOKENIZER = Tokenizer()
SPOKEN = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.sampled_from(["the", " The", " water.", "\n", " ", "42", "ö", "漢字", "."])).map("".join),
)


@given(SPOKEN)
def test_every_text_comes_back_from_its_ids(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(SPOKEN)
def test_no_token_is_longer_than_is_said(text: str) -> None:
    assert len(TOKENIZER.encode(text)) * MAX_TOKEN_BYTES >= len(text.encode())


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_any_ids_have_a_text(tokens: list[int]) -> None:
    TOKENIZER.decode(tokens)


def test_counts_are_near_those_of_real_tokenizers() -> None:
    text = "The capital of France is Paris, and its people like to walk along the river in the evening."
    assert 3 < len(text) / len(TOKENIZER.encode(text)) < 6


def test_a_text_follows_from_state_and_seed_alone() -> None:
    def said(state: int, seed: int) -> str:
        text = continuation(state, seed, 64)
        return TOKENIZER.decode(map(text.token, range(text.length)))

    assert said(1, 2) == said(1, 2)
    assert len({said(1, 2), said(2, 2), said(1, 3), said(2, 1)}) == 4


def test_answers_have_the_length_that_was_asked_for_on_average() -> None:
    lengths = [continuation(mix(state), 0, 64).length for state in range(2000)]
    assert min(lengths) >= 1
    assert 60 < sum(lengths) / len(lengths) < 68


def test_an_answer_is_sentences() -> None:
    text = Continuation(5, 5, length=40)
    said = TOKENIZER.decode(map(text.token, range(text.length)))
    assert said.endswith(".")
    assert all(sentence[0].isupper() for sentence in said.split(". "))


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 63))
def test_mixing_depends_on_every_bit(values: list[int], which: int, bit: int) -> None:
    changed = list(values)
    changed[which % len(values)] ^= 1 << bit
    assert mix(*changed) != mix(*values)
