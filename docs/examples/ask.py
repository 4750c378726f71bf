"""A caller of Ratchet, with the typed stubs: asks a question, shows the answer, and handles what can go wrong.

Run it beside `./run serve`:  .venv/bin/python docs/examples/ask.py "How long does delivery take?"
"""

import asyncio
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
    async with grpc.aio.insecure_channel(address) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        try:
            return await stub.Generate(request, timeout=30)
        except grpc.aio.AioRpcError as error:
            delay = retry_delay(error)
            if delay is None:
                raise
        await asyncio.sleep(delay)
        return await stub.Generate(request, timeout=30)


def retry_delay(error: grpc.aio.AioRpcError) -> float | None:
    """Seconds to wait before another try; None when the server did not ask for one."""
    status = rpc_status.from_call(error)
    retry = error_details_pb2.RetryInfo()
    for detail in status.details if status else ():
        if detail.Unpack(retry):
            return float(retry.retry_delay.ToTimedelta().total_seconds())
    return None


if __name__ == "__main__":
    reply = asyncio.run(ask(sys.argv[1]))
    print(f"{reply.response}\n\nscore {reply.reward_score:.2f}, the best of {reply.candidates_count}")
