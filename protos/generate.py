"""Generates the Python stubs beside their source, or checks that the committed ones are current (`--check`).

`buf/validate/validate.proto` is not kept here: the pinned protovalidate package carries its descriptor, and the stub
that our messages import is generated from that. `ratchet.binpb` is the whole API as one self-contained descriptor
set, for callers in other languages (`protoc --descriptor_set_in`, `buf generate protos/ratchet.binpb`).
"""

import argparse
import filecmp
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

from google.protobuf import descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

HERE = Path(__file__).resolve().parent
OURS = sorted(path.relative_to(HERE).as_posix() for path in (HERE / "ratchet").rglob("*.proto"))
SERVICES = [name for name in OURS if re.search(r"^service ", (HERE / name).read_text(), re.MULTILINE)]
VALIDATE = "buf/validate/validate.proto"


def validate_descriptors(target: Path) -> None:
    """Writes the descriptor set of validate.proto and its imports, as protovalidate carries them."""
    files = descriptor_pb2.FileDescriptorSet()
    for known in (descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2):
        known.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.add().ParseFromString(validate_pb.desc().proto.to_binary())
    target.write_bytes(files.SerializeToString())


def run_protoc(*arguments: str) -> None:
    """Runs the protoc of grpcio-tools; exits with its message when it fails."""
    well_known = str(resources.files("grpc_tools") / "_proto")
    if protoc.main(["protoc", f"-I{HERE}", f"-I{well_known}", *arguments]) != 0:
        sys.exit("protoc failed: see the lines above")


def generate(target: Path) -> None:
    """Writes every generated file below `target`."""
    with tempfile.TemporaryDirectory() as scratch:
        validate = Path(scratch) / "validate.binpb"
        validate_descriptors(validate)
        known = f"--descriptor_set_in={validate}"
        run_protoc(known, f"--python_out={target}", f"--mypy_out=quiet:{target}", VALIDATE)
        run_protoc(known, f"--python_out={target}", f"--mypy_out=quiet:{target}", *OURS)
        run_protoc(known, f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}", *SERVICES)
        run_protoc(known, "--include_imports", "--include_source_info", f"-o{target / 'ratchet.binpb'}", *OURS)


def drift(fresh: Path) -> list[str]:
    """Names of committed files that differ from fresh ones, or are missing."""
    names = [path.relative_to(fresh).as_posix() for path in sorted(fresh.rglob("*")) if path.is_file()]
    return [n for n in names if not (HERE / n).is_file() or not filecmp.cmp(HERE / n, fresh / n, shallow=False)]


def lint(image: Path) -> int:
    """Lints the API by buf's STANDARD rules; 0 when clean."""
    buf = Path(sys.executable).with_name("buf")
    command = [str(buf), "lint", f"{image}#format=binpb", "--config", str(HERE / "buf.yaml")]
    return subprocess.run(command, check=False).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a committed stub is out of date")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        if check and (stale := drift(fresh)):
            sys.exit(f"out of date: {', '.join(stale)}; run `python protos/generate.py`")
        if not check:
            shutil.copytree(fresh, HERE, dirs_exist_ok=True)
        sys.exit(lint(fresh / "ratchet.binpb"))


if __name__ == "__main__":
    main()
