"""Two tenants, and keys of one user, on one server with real stores and TLS: nobody reaches what is another's."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from ratchet.v1 import (
    conversation_pb2,
    conversation_pb2_grpc,
    document_pb2,
    document_pb2_grpc,
    feedback_pb2,
    feedback_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
    user_pb2,
    user_pb2_grpc,
)
from server import settings as configuration
from server.app import App
from server.deployment import deploy
from server.embedded import Endpoints
from server.identity import Role
from server.keyring import issue
from server.storage import database
from server.storage.api_keys import PostgresKeys
from tests.conftest import RunningStack, new_home

TLS = Path(__file__).resolve().parents[1] / "tls"


class Tenant:
    """Stubs that call with one key."""

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self.metadata = [("authorization", f"Bearer {key}")]
        self.inference = inference_pb2_grpc.InferenceServiceStub(channel)
        self.documents = document_pb2_grpc.DocumentServiceStub(channel)
        self.users = user_pb2_grpc.UserServiceStub(channel)
        self.conversations = conversation_pb2_grpc.ConversationServiceStub(channel)
        self.feedback = feedback_pb2_grpc.FeedbackServiceStub(channel)

    async def call(self, method: Any, request: Any) -> Any:
        return await method(request, metadata=self.metadata, timeout=30)

    async def ask(self, query: str, **more: Any) -> Any:
        return await self.call(self.inference.Generate, inference_pb2.GenerateRequest(query=query, **more))

    async def refused(self, method: Any, request: Any) -> tuple[grpc.StatusCode, str, str]:
        """Code, reason and text."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, request)
        status, info = rpc_status.from_call(caught.value), error_details_pb2.ErrorInfo()  # type: ignore[arg-type]
        assert status is not None, caught.value
        assert status.details[0].Unpack(info)
        return caught.value.code(), info.reason, status.message


class House:
    """One server, its keys' table and its database."""

    def __init__(self, app: App, pool: asyncpg.Pool, channel: grpc.aio.Channel) -> None:
        self.app, self.pool, self.channel = app, pool, channel
        self.keys = PostgresKeys(pool)

    async def tenant(self, tenant: str, *roles: Role, user: str = "") -> Tenant:
        key, text = issue(tenant, f"{tenant}'s", roles or (Role.OPERATOR,), user)
        await self.keys.add(key)
        return Tenant(self.channel, text)


@pytest.fixture(scope="module")
async def house(stack: RunningStack, pool: asyncpg.Pool) -> AsyncIterator[House]:
    name, home = f"tenants_{uuid4().hex}", new_home()
    await pool.execute(f"CREATE DATABASE {name}")
    url = urlunsplit(urlsplit(stack.endpoints.database_url)._replace(path=f"/{name}"))
    given = {"home": home, "backend": "fake", "database_url": url, "redis_url": f"{stack.endpoints.redis_url}?db=7"}
    secure = {"keys": "on", "tls_certificate": TLS / "certificate.pem", "tls_key": TLS / "key.pem", "lame_duck": 0}
    settings = configuration.load({**given, **secure, "listen": "127.0.0.1:0", "metrics": "off"}, {})
    endpoints = Endpoints(url, given["redis_url"], "", None, home / "models")
    app = App(settings, endpoints, await deploy(settings, endpoints), shared_port=False)
    try:
        await app.start()
        trusted = grpc.ssl_channel_credentials((TLS / "certificate.pem").read_bytes())
        options = [("grpc.ssl_target_name_override", "ratchet.test")]
        async with (
            await database.connect(url, size=2) as own,
            grpc.aio.secure_channel(f"127.0.0.1:{app.port}", trusted, options=options) as channel,
        ):
            yield House(app, own, channel)
    finally:
        await app.stop(asyncio.Event())
        await pool.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
async def alpha(house: House) -> Tenant:
    return await house.tenant("alpha")


@pytest.fixture(scope="module")
async def beta(house: House) -> Tenant:
    return await house.tenant("beta")


async def test_documents_are_their_tenants(alpha: Tenant, beta: Tenant) -> None:
    text = "Điều khoản: the zorbling fee of the alpha shop is 12 euros.".encode()
    add = document_pb2.AddDocumentRequest(uri="https://alpha.example/fees", content=text, request_id="add-1")
    document_id = (await alpha.call(alpha.documents.AddDocument, add)).document.document_id
    others = document_pb2.AddDocumentRequest(uri="https://alpha.example/fees", content=b"Beta's.", request_id="add-1")
    assert (await beta.call(beta.documents.AddDocument, others)).document.document_id != document_id
    for method, request in (
        (beta.documents.GetDocument, document_pb2.GetDocumentRequest(document_id=document_id)),
        (beta.documents.DeleteDocument, document_pb2.DeleteDocumentRequest(document_id=document_id)),
    ):
        assert (await beta.refused(method, request))[1] == "DOCUMENT_NOT_FOUND"
    listed = await beta.call(beta.documents.ListDocuments, document_pb2.ListDocumentsRequest())
    assert [document.size_bytes for document in listed.documents] == [len(b"Beta's.")]
    get = document_pb2.GetDocumentRequest(document_id=document_id)
    assert (await alpha.call(alpha.documents.GetDocument, get)).document.size_bytes == len(text)


async def test_a_page_token_of_one_tenant_is_none_of_another(alpha: Tenant, beta: Tenant) -> None:
    for number in range(2):
        add = document_pb2.AddDocumentRequest(uri=f"https://alpha.example/{number}", content=b"x")
        await alpha.call(alpha.documents.AddDocument, add)
    page = await alpha.call(alpha.documents.ListDocuments, document_pb2.ListDocumentsRequest(page_size=1))
    request = document_pb2.ListDocumentsRequest(page_size=1, page_token=page.next_page_token)
    assert (await beta.refused(beta.documents.ListDocuments, request))[1] == "INVALID_FIELD"


async def test_answers_rest_on_the_tenants_own_documents(alpha: Tenant, beta: Tenant) -> None:
    text = b"The quibbling surcharge of the alpha shop is 12 euros for each quibble that is returned."
    await alpha.call(
        alpha.documents.AddDocument, document_pb2.AddDocumentRequest(uri="https://a.example/q", content=text)
    )
    query = "What is the quibbling surcharge for a returned quibble?"
    assert any("quibbling" in text for text in await _evidence(alpha, query))
    assert await _evidence(beta, query) == []


async def _evidence(tenant: Tenant, query: str) -> list[str]:
    reply = await tenant.ask(query, tools=["docs"])
    return [evidence.text for run in reply.tool_runs for evidence in run.evidence]


async def test_profiles_are_their_tenants(alpha: Tenant, beta: Tenant) -> None:
    update = user_pb2.UpdateProfileRequest(user_id="ann", attributes={"tier": "vàng"})
    await alpha.call(alpha.users.UpdateProfile, update)
    get, delete = user_pb2.GetProfileRequest(user_id="ann"), user_pb2.DeleteProfileRequest(user_id="ann")
    assert (await beta.refused(beta.users.GetProfile, get))[1] == "PROFILE_NOT_FOUND"
    assert not (await beta.call(beta.users.DeleteProfile, delete)).deleted
    assert dict((await alpha.call(alpha.users.GetProfile, get)).profile.attributes) == {"tier": "vàng"}


async def test_a_session_of_the_same_name_is_another_conversation(house: House, alpha: Tenant, beta: Tenant) -> None:
    await alpha.ask("The first question of alpha?", user_id="ann", session_id="same")
    own = await alpha.ask("The second one?", user_id="ann", session_id="same")
    others = await beta.ask("The first question of beta?", user_id="ann", session_id="same")
    remembered = "SELECT context FROM conversation_logs WHERE response_id = $1"
    turns = [json.loads(await house.pool.fetchval(remembered, r.response_id))["turns"] for r in (own, others)]
    assert [[turn["query"] for turn in each] for each in turns] == [["The first question of alpha?"], []]


async def test_a_request_id_is_its_tenants(alpha: Tenant, beta: Tenant) -> None:
    first = await alpha.ask("Mine?", request_id="r-1")
    second = await beta.ask("Mine?", request_id="r-1")
    assert first.response_id != second.response_id
    assert not second.replayed
    assert (await alpha.ask("Mine?", request_id="r-1")).response_id == first.response_id


async def test_replies_and_feedback_are_their_tenants(alpha: Tenant, beta: Tenant) -> None:
    reply = await alpha.ask("Is this seen?", user_id="ann")
    rating = {"user_id": "ann", "rating_overall": 5}
    submit = feedback_pb2.SubmitFeedbackRequest(response_id=reply.response_id, **rating)
    unknown = feedback_pb2.SubmitFeedbackRequest(response_id=str(uuid4()), **rating)
    refusal = await beta.refused(beta.feedback.SubmitFeedback, submit)
    assert refusal[1] == "RESPONSE_NOT_FOUND"
    assert refusal == await beta.refused(beta.feedback.SubmitFeedback, unknown), "whether it exists is not told"
    with_receipt = feedback_pb2.SubmitFeedbackRequest(response_id=reply.response_id, receipt=reply.receipt, **rating)
    assert (await beta.refused(beta.feedback.SubmitFeedback, with_receipt))[1] == "RECEIPT_INVALID"
    await alpha.call(alpha.feedback.SubmitFeedback, submit)
    listing = feedback_pb2.ListFeedbackRequest(response_id=reply.response_id)
    assert len((await alpha.call(alpha.feedback.ListFeedback, listing)).feedback) == 1
    assert not (await beta.call(beta.feedback.ListFeedback, listing)).feedback
    story = conversation_pb2.GetConversationRequest(response_id=reply.response_id)
    assert (await beta.refused(beta.conversations.GetConversation, story))[0] is grpc.StatusCode.NOT_FOUND
    listed = await beta.call(beta.conversations.ListConversations, conversation_pb2.ListConversationsRequest())
    assert reply.response_id not in [summary.response_id for summary in listed.summaries]


async def test_a_key_of_one_user_reaches_nothing_of_others(house: House, alpha: Tenant) -> None:
    ann = await house.tenant("alpha", Role.CALLER, Role.RATER, user="ann")
    others = await alpha.ask("Bob's secret?", user_id="bob", session_id="bobs")
    rate = feedback_pb2.SubmitFeedbackRequest(response_id=others.response_id, user_id="bob", rating_overall=1)
    await alpha.call(alpha.feedback.SubmitFeedback, rate)
    for user in ("bob", ""):
        for method, request in (
            (ann.inference.Generate, inference_pb2.GenerateRequest(query="q", user_id=user)),
            (ann.feedback.SubmitFeedback, feedback_pb2.SubmitFeedbackRequest(**_rating(others.response_id, user))),
            (ann.conversations.ListConversations, conversation_pb2.ListConversationsRequest(user_id=user)),
            (ann.feedback.ListFeedback, feedback_pb2.ListFeedbackRequest(user_id=user)),
        ):
            assert (await ann.refused(method, request))[1] == "PERMISSION_DENIED"
    denied = await ann.refused(ann.users.GetProfile, user_pb2.GetProfileRequest(user_id="bob"))
    assert denied[1] == "PERMISSION_DENIED"
    story = conversation_pb2.GetConversationRequest(response_id=others.response_id)
    code, _, _ = await ann.refused(ann.conversations.GetConversation, story)
    assert code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED)
    own = await ann.ask("Mine?", user_id="ann", session_id="anns")
    assert own.response_id
    listed = await ann.call(ann.conversations.ListConversations, conversation_pb2.ListConversationsRequest())
    assert {summary.user_id for summary in listed.summaries} == {"ann"}
    given = await ann.call(ann.feedback.ListFeedback, feedback_pb2.ListFeedbackRequest())
    assert {each.user_id for each in given.feedback} <= {"ann"}
    everyones = await alpha.call(alpha.feedback.ListFeedback, feedback_pb2.ListFeedbackRequest())
    assert "bob" in {each.user_id for each in everyones.feedback}


def _rating(response_id: str, user: str) -> dict[str, Any]:
    return {"response_id": response_id, "user_id": user, "rating_overall": 3}


async def test_a_new_key_works_at_once_and_a_revoked_one_ends(house: House) -> None:
    key, text = issue("gamma", "short-lived", [Role.CALLER])
    await house.keys.add(key)
    gamma = Tenant(house.channel, text)
    listing = document_pb2.ListDocumentsRequest()
    assert not (await gamma.call(gamma.documents.ListDocuments, listing)).documents
    first = await house.keys.revoke(key.key_id)
    again = await house.keys.revoke(key.key_id)
    assert first is not None
    assert first == again, "revoking twice changes nothing"
    assert house.app._connected is not None
    assert house.app._connected.keys is not None
    while key.key_id in house.app._connected.keys._held:  # the test's own time limit ends it
        await asyncio.sleep(0.05)
    refusal = await gamma.refused(gamma.documents.ListDocuments, listing)
    assert refusal[:2] == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


async def test_while_keys_can_not_be_read_known_ones_work_and_of_others_nobody_can_tell(house: House) -> None:
    known = await house.tenant("epsilon", Role.CALLER)
    listing = document_pb2.ListDocumentsRequest()
    await known.call(known.documents.ListDocuments, listing)
    await house.pool.execute("ALTER TABLE api_keys RENAME TO hidden")
    try:
        unknown = Tenant(house.channel, issue("epsilon", "unknown", [Role.CALLER])[1])
        code, reason, _ = await unknown.refused(unknown.documents.ListDocuments, listing)
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
        await known.call(known.documents.ListDocuments, listing)
    finally:
        await house.pool.execute("ALTER TABLE hidden RENAME TO api_keys")
    code, _, _ = await unknown.refused(unknown.documents.ListDocuments, listing)
    assert code is grpc.StatusCode.UNAUTHENTICATED


async def test_the_credentials_that_the_documentation_shows_carry_the_key(house: House) -> None:
    key, text = issue("zeta", "documented", [Role.CALLER])
    await house.keys.add(key)
    trusted = grpc.ssl_channel_credentials((TLS / "certificate.pem").read_bytes())
    credentials = grpc.composite_channel_credentials(trusted, grpc.access_token_call_credentials(text))
    options = [("grpc.ssl_target_name_override", "ratchet.test")]
    async with grpc.aio.secure_channel(f"127.0.0.1:{house.app.port}", credentials, options=options) as channel:
        stub = document_pb2_grpc.DocumentServiceStub(channel)
        assert not (await stub.ListDocuments(document_pb2.ListDocumentsRequest(), timeout=30)).documents


async def test_health_needs_no_key_but_tls(house: House) -> None:
    answer = await health_pb2_grpc.HealthStub(house.channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    async with grpc.aio.insecure_channel(f"127.0.0.1:{house.app.port}") as plain:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_pb2_grpc.HealthStub(plain).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_keys_are_kept_without_secrets_and_changes_of_any_kind_are_seen(house: House) -> None:
    state, _ = await house.keys.usable("")
    key, text = issue("delta", "Khoá của Bé", [Role.RATER, Role.CALLER], "ann")
    await house.keys.add(key)
    assert list(await house.keys.all("delta")) == [key]
    rows = await house.pool.fetch("SELECT k::text FROM api_keys AS k")
    assert not any(text.rpartition("_")[2] in row[0] for row in rows)
    added, usable = await house.keys.usable(state)
    assert added != state
    assert usable is not None
    assert key in usable
    assert (await house.keys.usable(added)) == (added, None)
    await house.pool.execute("UPDATE api_keys SET expires_at = now() WHERE key_id = $1", key.key_id)
    ended, usable = await house.keys.usable(added)
    assert ended != added
    assert usable is not None
    assert key.key_id not in [each.key_id for each in usable]
    assert await house.keys.revoke("nosuchkey000") is None
