"""What the request path has to work with."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from server.backends.embedding import Embedder
from server.learning import Learner
from server.rollout.routed import Router
from server.rollout.shadow import NO_SHADOW, Shadowing
from server.storage.journal import Log
from server.storage.memory import Memory
from server.storage.profiles import Profiles
from server.tools.selector import Selector
from server.tools.tool import Tool

LOOKUP_SHARE = 0.15
"""Share of the remaining time that one lookup may take at most."""
DEFECT = "A defect; the server's log has it."


@dataclass(frozen=True, slots=True)
class Services:
    """What the path is given."""

    routes: Router
    log: Log
    memory: Memory
    profiles: Profiles
    learner: Learner
    embedder: Embedder
    tools: Sequence[Tool]
    selector: Selector
    threads: Executor
    shadow: Shadowing = NO_SHADOW
