"""`python -m tandem_prefill`: runs a prefill worker."""

from tandem_engine.worker.command import worker_command

from tandem_prefill.role import PrefillRole

main = worker_command("prefill", PrefillRole())

if __name__ == "__main__":
    main()
