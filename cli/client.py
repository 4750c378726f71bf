"""A synchronous client of a running server, for the commands that ask it."""

import math
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cli import connection
from cli.output import CommandFailed
from ratchet.v1 import inference_pb2_grpc

DEFAULT_ADDRESS = "127.0.0.1:50051"


class Seconds(click.ParamType[float]):
    """A time: a number over 0, not endless."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See ParamType."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            self.fail(f"{value!r} is no number of seconds over 0.", param, ctx)
        return seconds


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command of a client has."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the reply as one JSON document."),
        click.option(
            "--timeout",
            type=Seconds(),
            default=30.0,
            show_default=True,
            envvar="RATCHET_TIMEOUT",
            help="Deadline in seconds.",
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
def channel(address: str, timeout: float) -> Iterator[grpc.Channel]:
    """A channel to the server at `address`; the errors of its calls, which get `timeout` seconds each, end the command
    with a sentence.
    """
    with connection.opened(address) as opened:
        try:
            yield opened
        except grpc.RpcError as error:
            raise CommandFailed(sentence(address, timeout, error)) from error


@contextmanager
def inference(address: str, timeout: float) -> Iterator[inference_pb2_grpc.InferenceServiceStub]:
    """A stub of the server at `address`; see `channel`."""
    with channel(address, timeout) as opened:
        yield inference_pb2_grpc.InferenceServiceStub(opened)


def is_id(text: str) -> bool:
    """Whether it is written as ids of rollouts and experiments are, in letters of any size."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def sentence(address: str, timeout: float, error: Any) -> str:
    """What a failed call says, for people."""
    status = rpc_status.from_call(error)
    if status is None:
        return _without_details(address, timeout, error)
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        return _unknown(status.message)
    if error.code() is grpc.StatusCode.PERMISSION_DENIED:
        return str(status.message)
    info = error_details_pb2.ErrorInfo()
    reasons = [info.reason for detail in status.details if detail.Unpack(info)]
    return f"{error.code().name} ({', '.join(reasons)}): {status.message}"


def _without_details(address: str, timeout: float, error: Any) -> str:
    """What grpc itself says of a call that no Ratchet answered."""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"No answer within {timeout:g} s: pass a longer --timeout."
    if error.code() is not grpc.StatusCode.UNAVAILABLE:
        return f"{error.code().name}: {error.details()}"
    if connection.with_tls(address):
        return (
            f"No server answers at {address} with TLS ({error.details()}): see that it runs there, that RATCHET_TLS_CA "
            "names who signed its certificate and RATCHET_TLS_NAME whose it is, or set RATCHET_TLS=off."
        )
    return f"No server answers at {address}: start one with `ratchet serve`, or pass --address."


def _unknown(message: str) -> str:
    if connection.has_key():
        return f"{message} It is the one of RATCHET_API_KEY; `ratchet keys add` makes others."
    return "This server asks for an API key: set RATCHET_API_KEY to one that `ratchet keys add` made."
