"""A chat as users have it: streamed, by OpenAI's own client."""

import openai


def streamed_chat(url: str, model: str, question: str = "Who is there?", **options: object) -> str:
    """The text that a model answers with. Fails where the answer is not whole."""
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client:
        chunks = list(
            client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": question}], stream=True, extra_body=options
            )
        )
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text, chunks
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] in ("stop", "length"), chunks
    return text
