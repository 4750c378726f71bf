"""Receipts: what proves that a reply was given to a user, while its log row is not in Postgres yet.

A receipt says which reply it is of, and carries an HMAC-SHA256 (RFC 2104) of all that it says, with a secret that the
server processes share. It is no secret itself, and grants nothing but to give feedback on that one reply.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from server.errors import ReceiptInvalid
from server.feedback.types import GivenReply

PURPOSE = "receipt"
"""Of the shared secret."""
_VERSION = b"\x01"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Receipts:
    """Makes and reads receipts. `secrets`: the first one signs, all of them verify."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = tuple(secrets)

    def make(self, reply: GivenReply) -> str:
        """The receipt of a reply: letters, digits, `-`, `_` and one dot; at most 2,048 characters."""
        said = [
            reply.response_id.hex,
            reply.tenant_id,
            reply.user_id,
            reply.session_id,
            (reply.created_at - _EPOCH) // _MICROSECOND,
            reply.policy_release,
            reply.reward_release,
        ]
        body = _text(_VERSION + json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode())
        return f"{body}.{_signature(self._secrets[0], body)}"

    def read(self, receipt: str) -> GivenReply:
        """The reply that a receipt was made for, as one whose log row is not known.

        Raises ReceiptInvalid for everything that `make` did not give, to the letter.
        """
        body, _, signature = receipt.partition(".")
        # Texts are compared, not what they decode to: base64 has several spellings of the same bytes.
        given = signature.encode("utf-8", "replace")
        if not any(hmac.compare_digest(_signature(each, body).encode(), given) for each in self._secrets):
            raise _invalid()
        data = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        if data[:1] != _VERSION:
            raise _invalid()
        response_id, tenant, user, session, created, policy, reward = json.loads(data[1:])
        return GivenReply(
            tenant, UUID(response_id), user, session, _EPOCH + created * _MICROSECOND, policy, reward, logged=False
        )

    def require(self, receipt: str, tenant: str, response_id: UUID, user: str) -> GivenReply:
        """The same, of this very reply. Raises ReceiptInvalid for another one's."""
        found = self.read(receipt)
        if (found.tenant_id, found.response_id, found.user_id) != (tenant, response_id, user):
            raise _invalid()
        return found


def _signature(secret: bytes, body: str) -> str:
    return _text(hmac.digest(secret, body.encode("utf-8", "replace"), hashlib.sha256))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _invalid() -> ReceiptInvalid:
    return ReceiptInvalid("The receipt was not made for this reply to this user: send it as it came, or none.")
