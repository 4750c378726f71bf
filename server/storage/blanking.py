"""What stays of a log row whose user is erased: numbers, names of settings and releases, times. Pure.

Of the row's objects only what is listed here stays, so that a text that a later version adds goes too.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from server.storage.records import Row

_CANDIDATE = (
    *("index", "reward_score", "reward_logit", "aspects", "truncated", "selected", "selection_probability", "preset"),
    *("temperature", "top_p", "top_k", "seed", "max_tokens", "finish_reason", "output_tokens", "seconds", "wave"),
    *("duplicate_of", "score_source", "similarity"),
)
_NAMES = ("method", "asked_method", "tool_use", "early_stop")
_TOOL_RUN = ("tool", "outcome", "relevance", "seconds")
FAILED = "erased"
"""Stands in place of why a candidate has no text: that it had none stays."""
_EVIDENCE = {"tool": "", "source": "", "title": "", "text": "", "uri": "", "score": 0.0, "excludes": []}
_CONTEXT: Mapping[str, Any] = {"given": "", "turns": [], "summary": "", "profile": None}


def blank(row: Row, pseudonym: str) -> Row:
    """The row without texts and ids, its user being the pseudonym."""
    return replace(row, columns={**row.columns, **plain(pseudonym), **objects(row.columns)}, fingerprint=b"")


def plain(pseudonym: str) -> dict[str, Any]:
    """What the columns become whatever they held."""
    return {
        "request_id": "",
        "user_id": pseudonym,
        "session_id": "",
        "query": "",
        "context": _dump(_CONTEXT),
        "selected_response": "",
        "reward_context": None,
        "erased": True,
    }


def objects(columns: Mapping[str, Any]) -> dict[str, str]:
    """What becomes of the columns with objects that stay in part; those that are there."""
    keep = {
        "all_candidates": _candidate,
        "tool_runs": _tool_run,
        "citations": _citation,
        "degradations": _degradation,
    }
    kept = {
        name: _dump([part(each) for each in _list(columns[name])]) for name, part in keep.items() if name in columns
    }
    return kept | ({"selection": _selection(columns["selection"])} if "selection" in columns else {})


def _list(column: str) -> Sequence[Mapping[str, Any]]:
    found = json.loads(column)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _candidate(o: Mapping[str, Any]) -> dict[str, Any]:
    findings = [{"check": f["check"], "passed": f["passed"], "value": f["value"], "detail": ""} for f in _findings(o)]
    return _only(o, _CANDIDATE) | {"text": "", "error": FAILED if o.get("error") else "", "findings": findings}


def _findings(o: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [f for f in o.get("findings", ()) if {"check", "passed", "value"} <= f.keys()]


def _tool_run(o: Mapping[str, Any]) -> dict[str, Any]:
    return _only(o, _TOOL_RUN) | {"detail": "", "evidence": []}


def _citation(o: Mapping[str, Any]) -> dict[str, Any]:
    cited = o.get("evidence")
    kept = _only(cited, ("tool", "score")) if isinstance(cited, dict) else {}
    return _only(o, ("number", "support")) | {"evidence": {**_EVIDENCE, **kept}}


def _degradation(o: Mapping[str, Any]) -> dict[str, Any]:
    return _only(o, ["reason"]) | {"detail": ""}


def _selection(column: str) -> str:
    """The settings that decided: what is no text, and the names of methods. Names of tools are the caller's words."""
    found = json.loads(column)
    settings = found if isinstance(found, dict) else {}
    plain = {name: each for name, each in settings.items() if name in _NAMES or not isinstance(each, str | list | dict)}
    return _dump(plain | ({"tools": []} if "tools" in settings else {}))


def _only(o: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: o[name] for name in names if name in o}


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
