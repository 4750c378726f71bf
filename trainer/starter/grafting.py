"""Gives a trained policy a last layer that can copy numbers from the first step on: it only has to learn where to look.

A small Llama drowns its embeddings: after one layer nothing of a number's own is left to be copied. So numbers get a
second, turned embedding that the residual stream keeps, and the new layer's values turn it back into the number's
output vector ("mimetic initialisation", Trockman and Kolter 2023). What the model says otherwise stays almost the same.
"""

from collections.abc import Sequence
from typing import Final

import torch
from transformers import LlamaConfig, LlamaForCausalLM

LOUDNESS: Final = 30.0
"""The turned embedding's length over the embedding's."""
STRENGTH: Final = 3.0
"""What the layer adds of a number that it looks at."""
LOOKS: Final = (1.0, 2.0)
"""Sizes of the query and the key with which each head looks at numbers before it has learned which."""


@torch.no_grad()
def grafted(model: LlamaForCausalLM, numbers: Sequence[int], prompts: Sequence[Sequence[int]]) -> LlamaForCausalLM:
    """The model with one more layer and an output matrix of its own. `prompts` are the token ids of usual ones."""
    config = {**model.config.to_dict(), "num_hidden_layers": model.config.num_hidden_layers + 1}
    copy = LlamaForCausalLM(LlamaConfig.from_dict({**config, "tie_word_embeddings": False}))
    told = model.model.embed_tokens.weight.detach().clone()
    kept = {**model.state_dict(), "lm_head.weight": told}
    copy.load_state_dict(kept, strict=False)
    turn = torch.linalg.qr(torch.randn(told.shape[1], told.shape[1])).Q
    turned = told[list(numbers)] @ turn.T
    copy.model.embed_tokens.weight[list(numbers)] += LOUDNESS * turned
    _begin(copy, turn, turned.mean(0), _usual(copy, prompts))
    return copy


def _usual(model: LlamaForCausalLM, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """The direction, [hidden], that the new layer's inputs share."""
    states = []
    for ids in prompts:
        found = model.model(torch.tensor([list(ids)]), output_hidden_states=True).hidden_states[-2][0]
        states.append(found / found.norm(dim=1, keepdim=True))
    return torch.nn.functional.normalize(torch.cat(states).mean(0), dim=0)


def _begin(model: LlamaForCausalLM, turn: torch.Tensor, number: torch.Tensor, usual: torch.Tensor) -> None:
    """Sets the last layer: from anywhere it looks at numbers, and hands on their output vectors."""
    layer, width = model.model.layers[-1], len(usual)
    attention, size = layer.self_attn, width // model.config.num_attention_heads
    number = torch.nn.functional.normalize(number - (number @ usual) * usual, dim=0)
    attention.v_proj.weight.copy_(turn.T @ (torch.eye(width) - torch.outer(usual, usual)))
    attention.o_proj.weight.copy_(STRENGTH * torch.eye(width))
    slowest = torch.arange(size // 2 - 1, width, size)  # the part of each head that rotary positions hardly turn
    for projection, direction, length in zip((attention.q_proj, attention.k_proj), (usual, number), LOOKS, strict=True):
        torch.nn.init.normal_(projection.weight, std=0.05)
        projection.weight[slowest] = length * direction
    torch.nn.init.zeros_(layer.mlp.down_proj.weight)
