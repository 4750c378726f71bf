"""A synchronous client of a running server, for the commands that ask it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cli.output import CommandFailed
from ratchet.v1 import inference_pb2_grpc

_MAX_MESSAGE = 8 << 20
NO_PROXY = ("grpc.enable_http_proxy", 0)
"""Ratchet listens on loopback, where no proxy of the environment leads."""

DEFAULT_ADDRESS = "127.0.0.1:50051"


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command of a client has."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the reply as one JSON document."),
        click.option(
            "--timeout", default=30.0, show_default=True, envvar="RATCHET_TIMEOUT", help="Deadline in seconds."
        ),
        click.option(
            "--address",
            default=DEFAULT_ADDRESS,
            show_default=True,
            envvar="RATCHET_ADDRESS",
            help="Where the server listens.",
        ),
    ):
        command = option(command)
    return command


@contextmanager
def inference(address: str) -> Iterator[inference_pb2_grpc.InferenceServiceStub]:
    """A stub of the server at `address`; its errors end the command with a sentence."""
    limits = [("grpc.max_receive_message_length", _MAX_MESSAGE), ("grpc.max_send_message_length", _MAX_MESSAGE)]
    with grpc.insecure_channel(address, options=[*limits, NO_PROXY]) as channel:
        try:
            yield inference_pb2_grpc.InferenceServiceStub(channel)
        except grpc.RpcError as error:
            raise CommandFailed(_sentence(address, error)) from error


def _sentence(address: str, error: Any) -> str:
    status = rpc_status.from_call(error)
    if status is None:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return f"No server answers at {address}: start one with `ratchet serve`, or pass --address."
        return f"{error.code().name}: {error.details()}"
    info = error_details_pb2.ErrorInfo()
    reasons = [info.reason for detail in status.details if detail.Unpack(info)]
    return f"{error.code().name} ({', '.join(reasons)}): {status.message}"
