"""A caller of Ratchet, with the typed stubs: asks a question, shows the answer, and handles what can go wrong.

Run it beside `./run serve`:  .venv/bin/python docs/examples/ask.py "How long does delivery take?"
A server that asks for API keys takes the one in RATCHET_API_KEY.
"""

import asyncio
import os
import sys
import uuid

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from ratchet.v1 import inference_pb2 as pb
from ratchet.v1 import inference_pb2_grpc


async def ask(query: str, address: str = "127.0.0.1:50051") -> pb.GenerateResponse:
    """The reply to `query`. Tries once more when the server asks for it: the request id makes that safe."""
    request = pb.GenerateRequest(query=query, user_id="ann", session_id="example", request_id=str(uuid.uuid4()))
    key = os.environ.get("RATCHET_API_KEY")
    metadata = [("authorization", f"Bearer {key}")] if key else []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        try:
            return await stub.Generate(request, timeout=30, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            delay = retry_delay(error)
            if delay is None:
                raise
        await asyncio.sleep(delay)
        return await stub.Generate(request, timeout=30, metadata=metadata)


def retry_delay(error: grpc.aio.AioRpcError) -> float | None:
    """Seconds to wait before another try; None when the server did not ask for one."""
    status = rpc_status.from_call(error)
    retry = error_details_pb2.RetryInfo()
    for detail in status.details if status else ():
        if detail.Unpack(retry):
            return float(retry.retry_delay.ToTimedelta().total_seconds())
    return None


def show(reply: pb.GenerateResponse) -> None:
    """Prints the answer with what it rests on, or why there is none, and what was not as usual."""
    print(reply.response)
    for citation in reply.citations:
        print(f"[{citation.number}] {citation.evidence.title}")
    for reason in reply.refusal_reasons:
        print(f"- {reason}")
    if reply.HasField("reward_score"):  # unset when no model scored, and on a refusal
        print(f"\nscore {reply.reward_score:.2f}, chosen among {reply.candidates_count}")
    for degradation in reply.degradations:
        print(f"! {degradation.detail}")


if __name__ == "__main__":
    show(asyncio.run(ask(sys.argv[1], *sys.argv[2:3])))
