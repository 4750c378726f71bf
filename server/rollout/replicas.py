"""The Triton replicas of a deployment, each addressed by itself."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from server.backends.fake import FakeTriton
from server.backends.inference import EncoderBackend, ModelControl, PolicyBackend, RewardBackend
from server.backends.triton import TritonClient
from server.embedded import Endpoints
from server.rollout import memory
from server.settings import Settings

FAKE = "fake"
"""The address of a fake, of which each process has its own."""


class Backend(PolicyBackend, RewardBackend, EncoderBackend, ModelControl, Protocol):
    """One Triton, or a fake of it."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One Triton. `available` tells the bytes of memory that models can still have, where that is known; it may block.

    `computes`: whether its models really answer, so that golden answers mean something; a fake's don't.
    """

    address: str
    backend: Backend
    available: Callable[[], int] | None = None
    computes: bool = True


async def connect(
    settings: Settings, endpoints: Endpoints, backend: Backend, resources: AsyncExitStack
) -> tuple[Replica, ...]:
    """The replicas that are to hold the releases: those of RATCHET_TRITON_URLS, or the one that answers requests.

    `backend` is the one that requests go to; a fake is the only replica of its process. `resources` close the others.
    """
    if isinstance(backend, FakeTriton):
        return (Replica(FAKE, backend, computes=False),)
    if not settings.triton_urls:
        embedded = endpoints.triton_http_url is not None
        return (Replica(endpoints.triton_url, backend, memory.available if embedded else None),)
    found = tuple(Replica(address, TritonClient(address)) for address in settings.replicas)
    for replica in found:
        assert isinstance(replica.backend, TritonClient)
        resources.push_async_callback(replica.backend.close)
    return found
