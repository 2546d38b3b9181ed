"""One way to draw numbers out of numbers, the same on every machine and in every process."""

from typing import Final

_MASK: Final = 2**64 - 1


def mix(*values: int) -> int:
    """64 bits that depend on every value and on their order: SplitMix64's finaliser, chained."""
    state = 0x9E3779B97F4A7C15
    for value in values:
        state = (state + value * 0xD1B54A32D192ED03 + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state
