"""`python -m bench [router] [keys] [memory] [kv] [ttft] [agreement] [operator] [ready]`: all of them by default."""

import argparse
import json
from collections.abc import Callable

from bench import agreement, keys, kv, ready, router, scale, ttft
from bench.processes import log_file

MEASUREMENTS: dict[str, Callable[[], object]] = {
    "router": router.run,
    "keys": keys.run,
    "memory": router.memory,
    "kv": kv.run,
    "ttft": ttft.run,
    "agreement": agreement.run,
    "operator": scale.run,
    "ready": ready.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", nargs="*", metavar="|".join(MEASUREMENTS), help="what to measure; all by default")
    which = parser.parse_args().which or list(MEASUREMENTS)
    if unknown := set(which) - set(MEASUREMENTS):
        parser.error(f"{', '.join(unknown)}: there are {', '.join(MEASUREMENTS)}")
    for name in which:
        print(f"== {name}", flush=True)
        result = MEASUREMENTS[name]()
        log_file(name).with_suffix(".json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
