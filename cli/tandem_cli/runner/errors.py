"""What keeps a container from starting."""


class PodConfigError(Exception):
    """The pod names something that is not there, or asks for what the runner can't give. Says what and where."""
