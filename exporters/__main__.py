"""`python -m exporters policy|reward MODEL --out DIR --id ID [--json]`: converts a model to a release directory."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from exporters.errors import ExportError
from triton_models import contract
from triton_models.manifest import Release, ReleaseError


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, or 1 with one sentence on standard error."""
    chosen = _parser().parse_args(arguments)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        release = _export(chosen)
    except (ExportError, ReleaseError) as error:
        print(json.dumps({"error": str(error)}) if chosen.json else error, file=sys.stderr)
        return 1
    if chosen.json:
        print(json.dumps(asdict(release), default=dict))
    else:
        print(f"{release.id} is in {chosen.out}")
    return 0


def _export(chosen: argparse.Namespace) -> Release:
    common: dict[str, Any] = {"release_id": chosen.id, "parent": chosen.parent}
    if not chosen.json:
        common["report"] = _say
        _say("loading torch")
    if chosen.kind == "policy":
        from exporters.policy import export_policy

        return export_policy(chosen.model, chosen.out, quantization=chosen.quantization, **common)
    from exporters.reward import export_reward

    return export_reward(chosen.model, chosen.out, precision=chosen.precision, max_length=chosen.max_length, **common)


def _say(stage: str) -> None:
    print(f"{stage} ...", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="exporters", description="Converts a Hugging Face model to a release.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    policy = kinds.add_parser("policy", help="a causal language model, by CTranslate2")
    policy.add_argument("--quantization", default="int8", help="int8, float32, ... (default: %(default)s)")
    reward = kinds.add_parser("reward", help="a sequence-classification model, by ONNX Runtime")
    reward.add_argument("--precision", default="int8", choices=("int8", "fp32"), help="(default: %(default)s)")
    reward.add_argument(
        "--max-length", type=int, default=contract.REWARD_MAX_LENGTH, help="tokens (default: %(default)s)"
    )
    for each in (policy, reward):
        each.add_argument("model", help="a model's directory, or its name on the Hugging Face hub")
        each.add_argument("--out", type=Path, required=True, help="the release directory to write")
        each.add_argument("--id", required=True, help="the release's id, such as policy-000002")
        each.add_argument("--parent", help="the release that this one comes from")
        each.add_argument("--json", action="store_true", help="print the manifest, and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
