"""What keeps a container from starting."""


class PodConfigError(Exception):
    """The pod names something that is not there, or asks for what the runner can't give. Says what and where.

    `reason` is a kubelet's word for it, in the status of the container that waits.
    """

    def __init__(self, message: str, reason: str = "CreateContainerConfigError") -> None:
        super().__init__(message)
        self.reason = reason
