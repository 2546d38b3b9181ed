"""How a command ends when it can't do what it was asked to: a text that says what to do next, and no traceback."""

from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tandem_cli.platform.errors import PlatformError  # whose package fails by this module


class Failed(click.ClickException):
    """Exit status 1, the message on stderr, and under it what to do."""

    def __init__(self, message: str, hint: str = "", log: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.hint = hint
        self.log = log

    @classmethod
    def of(cls, error: "PlatformError") -> "Failed":
        return cls(str(error), error.hint, error.log)

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"Error: {self.message}", file=file, err=True)
        if self.log:
            click.echo("Its last lines:", file=file, err=True)
            for line in self.log:
                click.echo(f"  {line}", file=file, err=True)
        if self.hint:
            click.echo(f"What to do: {self.hint}", file=file, err=True)
