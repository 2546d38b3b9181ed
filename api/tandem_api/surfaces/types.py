"""Which error type goes with a status, where nothing says it better (requirements VS-10 to VS-13, EI-07)."""

from tandem_api.anthropic.errors import error_type


def openai_type(status: int) -> str:
    """OpenAI calls an unknown model or path, a wrong method and a body that is too large invalid requests."""
    return "invalid_request_error" if status in (404, 405, 413) else error_type(status)
