"""`python -m tandem_cli` is `tandem`."""

from tandem_cli.main import main

if __name__ == "__main__":
    main(prog_name="tandem")
