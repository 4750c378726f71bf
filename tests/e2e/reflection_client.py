"""Calls Ratchet knowing nothing but its address: every type comes from the server's reflection. Prints what it got."""

import json
import sys

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

address = sys.argv[1]
channel = grpc.insecure_channel(address)
pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
service = pool.FindServiceByName("ratchet.v1.InferenceService")


def call(name: str, **fields: object) -> dict[str, object]:
    method = service.FindMethodByName(name)
    request = message_factory.GetMessageClass(method.input_type)(**fields)
    reply = channel.unary_unary(
        f"/{service.full_name}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )(request, timeout=30)
    return json_format.MessageToDict(reply, preserving_proto_field_name=True)


answer = call("Generate", query="How long does delivery take?", candidate_count=3, tool_use="TOOL_USE_NONE")
scores = call("Score", query="How long does delivery take?", responses=[answer["response"], "no"])
assert not [name for name in sys.modules if name.startswith(("ratchet", "buf"))], "a stub of ours was imported"
print(json.dumps({"answer": answer, "scores": scores}))
