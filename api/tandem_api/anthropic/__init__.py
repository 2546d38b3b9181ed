"""Anthropic's wire formats, to the letter: what requests may hold, and how answers and errors are written."""
