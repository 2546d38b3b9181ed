"""The three APIs that a conversation can be had by, behind one seam: reading requests, writing replies and errors.

What serves models of its own (virtual ones) is written once against `Surface`, and so behaves the same on all three.
"""

from tandem_api.surfaces.chat import Chat
from tandem_api.surfaces.messages import Messages
from tandem_api.surfaces.responses import Responses
from tandem_api.surfaces.surface import Surface

__all__ = ["Chat", "Messages", "Responses", "Surface"]
