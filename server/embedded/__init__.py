"""Real Postgres, Valkey and Triton as children of Ratchet, for machines that have none.

`Stack` is the whole of it: start, status, stop. Nothing outside this room knows how a part is started.
"""

from server.embedded.child import ChildStatus
from server.embedded.errors import EmbeddedError
from server.embedded.settings import EmbeddedSettings, Endpoints, default_home
from server.embedded.stack import Stack

__all__ = ["ChildStatus", "EmbeddedError", "EmbeddedSettings", "Endpoints", "Stack", "default_home"]
