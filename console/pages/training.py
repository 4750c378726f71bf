"""The training page: runs and what waits for the next one, or one run, and its report as a document of its own."""

from typing import Final

from fastapi import Response
from nicegui import app

from console import client, parts, session, shell
from console.parts import el
from console.training.listing import Waiting, runs
from console.training.run import REPORT, Run
from console.training.starting import Starting
from console.words import t
from ratchet.v1 import training_pb2 as pb

_POLICY: Final = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
"""The report runs nothing, fetches nothing, and is of no origin."""
_SCHEMES = {"system": "light dark", "light": "light", "dark": "dark"}


@shell.page("/training", nav="training", icon="model_training", order=50)
def training(run: str = "") -> None:
    """The page; `run` shows one run, by its id."""
    with shell.frame(t("training.title")) as frame:
        if run:
            Run(run)
            return
        dialog = Starting()
        with frame.actions:
            parts.button(t("training.start"), dialog.open, symbol="play_arrow", kind="primary")
        with el("div", "stack training-page"):
            with parts.card("waiting", aria_label=t("training.waiting")):
                waiting = Waiting()
            el("h2", "section-title", t("training.runs"))
            runs(waiting)


@app.get(REPORT)
async def report(run: str = "", form: str = "html") -> Response:
    """A run's report: one HTML page in the visitor's appearance, or with `form=json` all its figures."""
    api = client.api()
    try:
        answer = await api.call(api.training.GetTrainingReport, pb.GetTrainingReportRequest(training_id=run))
    except client.Trouble as trouble:
        return Response(trouble.sentence, 404 if not trouble.away else 503, media_type="text/plain")
    if form == "json":
        return Response(answer.json, media_type="application/json")
    look = f"<style>.report{{color-scheme:{_SCHEMES[session.theme()]}}}</style></head>"
    page = answer.html.replace("</head>", look, 1)
    return Response(page, media_type="text/html", headers={"content-security-policy": _POLICY})
