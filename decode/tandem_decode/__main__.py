"""`python -m tandem_decode`: runs a decode worker."""

from tandem_engine.worker.command import worker_command

from tandem_decode.role import DecodeRole

main = worker_command("decode", DecodeRole())

if __name__ == "__main__":
    main()
