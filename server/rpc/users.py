"""ratchet.v1.UserService."""

from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from ratchet.v1 import user_pb2 as pb
from ratchet.v1 import user_pb2_grpc
from server.erasing import Erased
from server.errors import DeadlineExceeded, ProfileNotFound
from server.identity import caller
from server.patience import within
from server.rpc.messages import Defaults
from server.rpc.validation import require_valid
from server.storage.profiles import Change, Profiles, etag
from server.types import Profile

Context = Any
"""grpc.aio.ServicerContext, whose stubs are generic and whose class is not."""


T = TypeVar("T")
_SHARE = 0.95
"""Of a call's time, what an erasure gets: the caller is to be told that it goes on when the call is repeated."""


class Erases(Protocol):
    """What erases users."""

    async def erase(self, tenant: str, user: str, seconds: float) -> Erased:
        """Erases the user within `seconds`. Raises StoreUnavailable, DeadlineExceeded."""


class UserService(user_pb2_grpc.UserServiceServicer):
    """See protos/ratchet/v1/user.proto."""

    def __init__(self, profiles: Profiles, eraser: Erases, defaults: Defaults) -> None:
        self._profiles, self._eraser, self._defaults = profiles, eraser, defaults

    async def GetProfile(self, request: pb.GetProfileRequest, context: Context) -> pb.GetProfileResponse:
        """One profile."""
        require_valid(request)
        caller().require_user(request.user_id)
        found = await self._in_time(context, self._profiles.get(caller().tenant_id, request.user_id))
        if found is None:
            raise ProfileNotFound("Nothing is kept of this user.")
        return pb.GetProfileResponse(profile=message_of(found))

    async def UpdateProfile(self, request: pb.UpdateProfileRequest, context: Context) -> pb.UpdateProfileResponse:
        """Changes attributes."""
        require_valid(request)
        caller().require_user(request.user_id)
        change = Change(
            attributes=dict(request.attributes),
            remove=tuple(request.remove_attributes),
            replace=request.replace_all,
            etag=request.etag,
            request_id=request.request_id,
        )
        changed = await self._in_time(context, self._profiles.put(caller().tenant_id, request.user_id, change))
        return pb.UpdateProfileResponse(profile=message_of(changed))

    async def DeleteProfile(self, request: pb.DeleteProfileRequest, context: Context) -> pb.DeleteProfileResponse:
        """Erases a profile."""
        require_valid(request)
        caller().require_user(request.user_id)
        deleted = await self._in_time(context, self._profiles.delete(caller().tenant_id, request.user_id))
        return pb.DeleteProfileResponse(deleted=deleted)

    async def EraseUser(self, request: pb.EraseUserRequest, context: Context) -> pb.EraseUserResponse:
        """Erases a user everywhere."""
        require_valid(request)
        caller().require_user(request.user_id)
        seconds = self._seconds(context) * _SHARE
        work = self._eraser.erase(caller().tenant_id, request.user_id, seconds)
        erased = await self._in_time(context, work, "The erasure is not complete: repeat the call, it goes on.")
        until = Timestamp()
        until.FromDatetime(erased.until)
        return pb.EraseUserResponse(
            erased=erased.counts,
            pending=erased.pending,
            erase_time=until,
            trained_releases=erased.trained_releases,
        )

    async def _in_time(
        self, context: Context, work: Coroutine[Any, Any, T], late: str = "The profiles did not answer in time."
    ) -> T:
        """Ends what takes longer than the call's deadline, or than calls may take, and says that it is `late`."""
        try:
            return await within(self._seconds(context), work)
        except TimeoutError as error:
            raise DeadlineExceeded(late) from error

    def _seconds(self, context: Context) -> float:
        remaining, defaults = context.time_remaining(), self._defaults
        return float(min(defaults.deadline_seconds if remaining is None else remaining, defaults.max_seconds))


def message_of(profile: Profile) -> pb.Profile:
    """The message of a profile."""
    message = pb.Profile(
        user_id=profile.user_id,
        attributes=dict(profile.attributes),
        has_preference=profile.preference is not None,
        preference_weight=profile.weight,
        embedding_model=profile.model,
        etag=etag(profile.attributes),
    )
    if profile.updated_at is not None:
        updated = Timestamp()
        updated.FromDatetime(profile.updated_at)
        message.update_time.CopyFrom(updated)
    return message
