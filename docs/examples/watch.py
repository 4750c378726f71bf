"""A caller that watches an answer come about: StreamGenerate with the typed stubs.

Run it beside `./run serve`:  .venv/bin/python docs/examples/watch.py "How long does delivery take?"
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc

from ratchet.v1 import inference_pb2 as pb
from ratchet.v1 import inference_pb2_grpc


async def events(query: str, address: str = "127.0.0.1:50051") -> AsyncIterator[pb.StreamGenerateResponse]:
    """What happens on the way; the last one is the reply. Leaving early cancels the request."""
    request = pb.StreamGenerateRequest(request=pb.GenerateRequest(query=query))
    async with grpc.aio.insecure_channel(address) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        async for event in stub.StreamGenerate(request, timeout=30):
            yield event


def line(event: pb.StreamGenerateResponse) -> str:
    """One event, for people."""
    candidate, scored = event.candidate_drawn, event.candidate_scored
    lines = {
        "tools_selected": f"tools: {', '.join(event.tools_selected.tools) or 'none'}",
        "tool_finished": f"{event.tool_finished.tool}: {event.tool_finished.detail}",
        "candidate_drawn": f"candidate {candidate.index}: {candidate.text or candidate.error}",
        "candidate_scored": f"candidate {scored.index} scores {scored.reward_score:.2f}",
        "regenerating": f"once more: {' '.join(event.regenerating.reasons)}",
        "result": f"\n{event.result.response}",
    }
    return lines.get(event.WhichOneof("event") or "", "")  # a newer server may tell more


async def main(query: str, *address: str) -> None:
    """Prints each event as it comes."""
    async for event in events(query, *address):
        print(line(event), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *sys.argv[2:3]))
