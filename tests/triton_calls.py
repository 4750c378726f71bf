"""Direct calls of models on a real tritonserver, as tests need them: blocking, with raw KServe messages."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc

from triton_models import manifest
from triton_models.config import Options
from triton_models.release import install

SECONDS = 60


@dataclass(frozen=True)
class Part:
    """One response of a policy; fields are None when the response doesn't carry them."""

    text: str
    finish_reason: str | None
    input_tokens: int | None
    output_tokens: int | None


class PolicyCalls:
    """Asks one policy model; `with` closes its channel."""

    def __init__(self, address: str, model: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._model = model

    def __enter__(self) -> "PolicyCalls":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def ask(self, text: str | bytes, *, flags: dict[str, bool] | None = None, **sampling: Any) -> list[Part]:
        """All responses to one request. A model's error is an AssertionError with its text."""
        return list(parts(self.start(text, flags=flags, **sampling)))

    def start(self, text: str | bytes, *, flags: dict[str, bool] | None = None, **sampling: Any) -> Any:
        """The gRPC call of one request, to be read with `parts`, or cancelled."""
        raw = sampling.pop("raw", None)
        asked = {"exclude_input_in_output": True, "return_finish_reason": True, "return_num_output_tokens": True}
        asked |= {"return_num_input_tokens": True, **(flags or {})}
        inputs = [_bytes("text_input", text), _bytes("sampling_parameters", raw or json.dumps(sampling))]
        inputs += [_flag(name, value) for name, value in asked.items()]
        request = service_pb2.ModelInferRequest(model_name=self._model, inputs=[tensor for tensor, _ in inputs])
        request.raw_input_contents.extend(content for _, content in inputs)
        return self._stub.ModelStreamInfer(iter([request]), timeout=SECONDS)


def parts(call: Any) -> Iterator[Part]:
    """The responses of a started call."""
    for message in call:
        assert not message.error_message, message.error_message
        result = triton.InferResult(message.infer_response)
        yield Part(
            _first(result, "text_output").decode(),
            None if (reason := _first(result, "finish_reason")) is None else reason.decode(),
            _first(result, "num_input_tokens"),
            _first(result, "num_output_tokens"),
        )


def installed_as(source: Path, repository: Path, release_id: str, options: Options | None = None) -> Path:
    """Installs a copy of the release `source` under another id."""
    copy = source.with_name(release_id)
    if not copy.exists():
        shutil.copytree(source, copy)
        manifest.write(copy, replace(manifest.read(copy), id=release_id))
    return install(copy, repository, options)


def load(address: str, model: str) -> None:
    """Loads the model of the repository."""
    with triton.InferenceServerClient(address) as client:
        client.load_model(model)


def _first(result: triton.InferResult, name: str) -> Any:
    values = result.as_numpy(name)
    return None if values is None else values.reshape(-1)[0]


def _bytes(name: str, text: str | bytes) -> tuple[Any, bytes]:
    content = text if isinstance(text, bytes) else text.encode()
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype="BYTES", shape=[1])
    return tensor, len(content).to_bytes(4, "little") + content


def _flag(name: str, value: bool) -> tuple[Any, bytes]:
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype="BOOL", shape=[1])
    return tensor, np.array([value]).tobytes()
