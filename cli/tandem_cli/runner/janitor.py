"""Removes a folder once nobody uses it: the program that cleans up after a runner that was killed.

Standard input is a pipe whose other end the runner holds, and so does every keeper that it starts. When all of them
are gone, the pipe ends and the folder is removed. Started as `python -I -S janitor.py FOLDER`.
"""

import os
import shutil
import signal
import sys


def main(folder: str) -> None:
    """Waits for the end of standard input, then removes `folder`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while os.read(0, 64):
        pass
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
