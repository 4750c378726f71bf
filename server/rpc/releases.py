"""ratchet.v1.ReleaseService."""

import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from ratchet.v1 import release_pb2 as pb
from ratchet.v1 import release_pb2_grpc
from server.errors import DeadlineExceeded, ReleaseNotFound
from server.identity import caller
from server.patience import within
from server.rollout.arrivals import Refusals
from server.rollout.registry import Published
from server.rollout.retirement import Needed, retire
from server.rollout.store import Rollouts
from server.rpc.documents import place_of, token_of
from server.rpc.messages import Defaults
from server.rpc.release_messages import ASKED_KINDS, Serving, refused_of, release_of
from server.rpc.validation import require_clean

Context = Any
"""grpc.aio.ServicerContext, whose stubs are generic and whose class is not."""
T = TypeVar("T")

log = logging.getLogger(__name__)

PAGE_SIZE, MOST_RELEASES = 50, 200
_REFUSED = "refused releases"
MOST_ANCESTORS = 50
Publish = Callable[[Path, str], Awaitable[tuple[Published, bool]]]
"""Publishes the release of a directory on behalf of somebody; gives it, and whether it was there before. Raises
ReleaseInvalid, ReleaseExists, Unavailable."""


class ReleaseService(release_pb2_grpc.ReleaseServiceServicer):
    """See protos/ratchet/v1/release.proto."""

    def __init__(
        self, rollouts: Rollouts, refusals: Refusals, publish: Publish, is_needed: Needed, defaults: Defaults
    ) -> None:
        self._rollouts, self._refusals, self._defaults = rollouts, refusals, defaults
        self._publish, self._is_needed = publish, is_needed

    async def ListReleases(self, request: pb.ListReleasesRequest, context: Context) -> pb.ListReleasesResponse:
        """A page of releases."""
        require_clean(request)
        return await self._in_time(context, self._listed(request))

    async def GetRelease(self, request: pb.GetReleaseRequest, context: Context) -> pb.GetReleaseResponse:
        """One release with its lineage."""
        require_clean(request)
        return await self._in_time(context, self._one(request.release))

    async def PublishRelease(self, request: pb.PublishReleaseRequest, context: Context) -> pb.PublishReleaseResponse:
        """Publishes a release."""
        require_clean(request)
        return await self._in_time(context, self._published(Path(request.directory), caller().name))

    async def RetireRelease(self, request: pb.RetireReleaseRequest, context: Context) -> pb.RetireReleaseResponse:
        """Retires a release."""
        require_clean(request)
        return await self._in_time(context, self._retired(request.release))

    async def ListRefusedReleases(
        self, request: pb.ListRefusedReleasesRequest, context: Context
    ) -> pb.ListRefusedReleasesResponse:
        """A page of what training made and could not be published."""
        require_clean(request)
        return await self._in_time(context, self._refused(request))

    async def _listed(self, request: pb.ListReleasesRequest) -> pb.ListReleasesResponse:
        size, scope = min(request.page_size or PAGE_SIZE, MOST_RELEASES), f"releases:{request.kind}"
        before = place_of(request.page_token, scope) if request.page_token else ""
        found = await self._rollouts.releases(size=size + 1, before=before, kind=ASKED_KINDS.get(request.kind))
        serving = await serving_of(self._rollouts)
        return pb.ListReleasesResponse(
            releases=[release_of(each, serving) for each in found[:size]],
            next_page_token=token_of(found[size - 1].release, scope) if len(found) > size else "",
        )

    async def _one(self, release: str) -> pb.GetReleaseResponse:
        found, serving = await self._rollouts.release(release), await serving_of(self._rollouts)
        ancestors = [release_of(each, serving) for each in await self._ancestors(found)]
        return pb.GetReleaseResponse(release=release_of(found, serving), ancestors=ancestors)

    async def _ancestors(self, release: Published) -> list[Published]:
        """Its parent first, as far as they were published here, and each once, whatever manifests say."""
        found, seen = list[Published](), {release.release}
        parent = release.manifest.get("parent")
        while parent and parent not in seen and len(found) < MOST_ANCESTORS:
            try:
                found.append(await self._rollouts.release(parent))
            except ReleaseNotFound:
                break
            seen.add(parent)
            parent = found[-1].manifest.get("parent")
        return found

    async def _published(self, directory: Path, by: str) -> pb.PublishReleaseResponse:
        published, existed = await self._publish(directory, by)
        message = release_of(published, await serving_of(self._rollouts))
        return pb.PublishReleaseResponse(release=message, existed=existed)

    async def _retired(self, release: str) -> pb.RetireReleaseResponse:
        retired, existed = await retire(release, self._rollouts, self._is_needed)
        if not existed:
            log.info("%s retires %s", caller().name or "anyone", release)
        message = release_of(retired, await serving_of(self._rollouts))
        return pb.RetireReleaseResponse(release=message, existed=existed)

    async def _refused(self, request: pb.ListRefusedReleasesRequest) -> pb.ListRefusedReleasesResponse:
        size = min(request.page_size or PAGE_SIZE, MOST_RELEASES)
        before = place_of(request.page_token, _REFUSED) if request.page_token else ""
        found = await self._refusals.refused(size=size + 1, before=before)
        return pb.ListRefusedReleasesResponse(
            refused_releases=map(refused_of, found[:size]),
            next_page_token=token_of(str(found[size - 1].training_id), _REFUSED) if len(found) > size else "",
        )

    async def _in_time(self, context: Context, work: Coroutine[Any, Any, T]) -> T:
        """Ends what takes longer than the call's deadline, or than calls may take."""
        remaining, defaults = context.time_remaining(), self._defaults
        seconds = min(defaults.deadline_seconds if remaining is None else remaining, defaults.max_seconds)
        try:
            return await within(seconds, work)
        except TimeoutError as error:
            raise DeadlineExceeded("The registry of releases did not answer in time.") from error


async def serving_of(rollouts: Rollouts) -> Serving:
    """Who serves now. Raises StoreUnavailable."""
    return Serving.of(await rollouts.champions(), await rollouts.active(), await rollouts.replicas())
