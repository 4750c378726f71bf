"""The dialog in which somebody publishes a release: the directory of the server's machine that holds it."""

from collections.abc import Callable
from functools import partial

import grpc
from nicegui import ui

from console import client
from console.dialog import Dialog
from console.parts import Field, el
from console.words import t
from ratchet.v1 import release_pb2 as pb

SECONDS = 900.0
"""What publishing gets, where the server lets calls take as long: gigabytes are read, checked and copied."""


class Publishing:
    """What is published is shown then."""

    def __init__(self) -> None:
        self._dialog = Dialog(self._send, t("releases.publish_dialog"), wide=True)
        with self._dialog.body:
            el("p", "muted", t("releases.publish_text"))
            self._directory = Field(
                t("releases.directory"),
                hint=t("releases.directory_hint"),
                name="directory",
                maxlength=4096,
                placeholder="/srv/models/reward-000002",
                spellcheck="false",
                autocomplete="off",
            )
        self._dialog.offer(t("rollouts.close"), t("releases.publish"), symbol="upload")

    def open(self, directory: str = "") -> None:
        """Asks, beginning with that directory, or with the last one that was written."""
        if directory:
            self._directory.value = directory
        self._dialog.open()

    async def _send(self) -> Callable[[], None]:
        directory = self._directory.value.strip()
        if not directory.startswith("/"):
            raise ValueError(t("releases.directory_missing"))
        api = client.api()
        request = pb.PublishReleaseRequest(directory=directory)
        try:
            answer = await api.call(api.releases.PublishRelease, request, SECONDS)
        except client.Trouble as trouble:
            if trouble.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise ValueError(t("releases.still_publishing")) from trouble
            raise
        return partial(ui.navigate.to, f"/releases?release={answer.release.release}")
