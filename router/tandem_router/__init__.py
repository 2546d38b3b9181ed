"""The router: OpenAI frontends, pairing of workers, relay of their answers."""
