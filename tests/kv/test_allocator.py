"""What KV transfer does to the C library's allocator, seen in a process of its own."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from tandem_engine.kv.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def messages():
    held = [bytearray(4 * 2**20) for _ in range(8)]

{kept}
messages()
before = faults()
for _ in range(10):
    messages()
print(faults() - before)
"""


def page_faults(kept: str) -> int:
    """Of ten rounds of 32 MiB: 8,192 pages each."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(kept=kept)], capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="another allocator")
def test_freed_memory_is_used_for_the_next_message() -> None:
    assert page_faults("keep_freed_memory()") < 8192 < page_faults("")
