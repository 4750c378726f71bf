"""The starter reward model as a checkpoint that training can go on from: a Hugging Face directory, half precision.

It is shipped beside the release because a release's int8 graph can't be trained. `publish` takes it from a training
run; `restore` reads it back from the release's graph, for a release whose checkpoint is gone.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainer.starter import tokenizer
from trainer.starter.query import StarterError
from triton_models import manifest

PREFIX: Final = "inner."
"""What the exporter's module calls the model."""
SETTINGS: Final = Path(__file__).with_name("data") / "training.toml"
"""What a reward this small, that knows its trade already, is trained further with; see docs/simulation.md."""
_PARTS: Final = (".bias", ".weight")

Floats = NDArray[np.float32]


def publish(model: Path, out: Path) -> None:
    """Writes the checkpoint `model` to the directory `out` with its weights in half precision, replacing what is there,
    and beside them the settings that suit its training.

    config.json says float32: whoever loads it trains in that.
    """
    import torch
    from safetensors.torch import load_file, save_file

    staging = out.with_name(f".{out.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(model, staging)
    weights = load_file(model / "model.safetensors")
    halves = {name: value.to(torch.float16).contiguous() for name, value in weights.items()}
    save_file(halves, staging / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(SETTINGS, staging)
    shutil.rmtree(out, ignore_errors=True)
    staging.rename(out)


def restore(release: Path, model: Path, heads: int) -> None:
    """Writes the checkpoint behind an int8 starter release into the directory `model`, as transformers saves it.

    The weights are the graph's own, dequantised: the rounding to int8 stays in them. Raises StarterError for a graph
    whose weights aren't all of the model's.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import BertForSequenceClassification

    found = weights(release / "1" / "model.onnx")
    spec = manifest.read(release).serializer
    bpe = Tokenizer.from_file(str(release / "tokenizer" / "tokenizer.json"))
    torch_model = BertForSequenceClassification(_config(found, spec["max_length"], heads))
    try:
        torch_model.load_state_dict({name: torch.from_numpy(value) for name, value in found.items()})
    except RuntimeError as error:
        raise StarterError(f"The graph of {release} is not a starter reward's: {error}") from None
    model.mkdir(parents=True, exist_ok=True)
    torch_model.train(False).save_pretrained(model)
    tokenizer.save(bpe, model, tokenizer.reward_config(spec["max_length"]))


def _config(found: dict[str, Floats], max_length: int, heads: int) -> Any:
    from transformers import BertConfig

    vocabulary, width = found["bert.embeddings.word_embeddings.weight"].shape
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=sum(name.endswith("intermediate.dense.bias") for name in found),
        num_attention_heads=heads,
        intermediate_size=len(found["bert.encoder.layer.0.intermediate.dense.bias"]),
        max_position_embeddings=max_length,
        pad_token_id=tokenizer.SPECIAL.index(tokenizer.PAD),
        attention_probs_dropout_prob=0.0,
    )
    config.num_labels = 1
    return config


def weights(graph: Path) -> dict[str, Floats]:
    """The weights of an exported graph by their names in the checkpoint, dequantised where they are int8.

    A matrix product's weight has lost its name in the graph: the bias that is added to the product tells it.
    """
    import onnx

    model = onnx.load(str(graph)).graph
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in model.initializer}
    plain = {name: array for name, array in arrays.items() if name.startswith(PREFIX) and name.endswith(_PARTS)}
    found = plain | dict(_tables(arrays)) | dict(_products(model, arrays))
    return {name.removeprefix(PREFIX): value.astype(np.float32) for name, value in found.items()}


def _tables(arrays: dict[str, Any]) -> Iterator[tuple[str, Floats]]:
    for name in arrays:
        if name.startswith(PREFIX) and name.endswith("embeddings.weight_quantized"):
            table = name.removesuffix("_quantized")
            yield table, _dequantised(arrays, table)


def _products(model: Any, arrays: dict[str, Any]) -> Iterator[tuple[str, Floats]]:
    """Follows each product over casts and scales to the sum with its bias."""
    readers = {name: node for node in model.node for name in node.input}
    for node in model.node:
        if node.op_type == "MatMulInteger":
            end = node
            while end.op_type != "Add":
                end = readers[end.output[0]]
            bias = next(name for name in end.input if name in arrays)
            product = _dequantised(arrays, node.input[1].removesuffix("_quantized"))
            yield bias.removesuffix("bias") + "weight", np.ascontiguousarray(product.T)


def _dequantised(arrays: dict[str, Any], name: str) -> Floats:
    """Rows by columns, the scale one number or one a column."""
    codes, scale, zero = (arrays[f"{name}_{part}"] for part in ("quantized", "scale", "zero_point"))
    values: Floats = (codes.astype(np.float32) - zero.astype(np.float32)) * scale
    return values
