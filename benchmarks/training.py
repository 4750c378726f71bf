"""Training throughput: the product's loop beside plain Hugging Face loops on the same answers, in turns.

The plain ones train a sequence classifier on the same win rates with AdamW, batches of 16 at random: padded to the
model's length, padded to the longest of the batch, and the latter without the dropout of attention weights, which the
product's loop does without, too: it keeps torch from its fast attention. Each turn is a process of its own, so that
peak memory is its own. Where other work shares the machine, read samples per second of processor time.
"""

import gzip
import json
import multiprocessing
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from benchmarks import preferences
from benchmarks.preferences import Figures, Skipped
from exporters.source import quiet

QUESTIONS: Final = 32
ANSWERS: Final = 4
TURNS: Final = 2
BATCH: Final = 16
MOST_TOKENS: Final = 512
AIM: Final = 1.5
"""Times the throughput of the plain loop."""
Loop = Callable[[Path, list[Figures]], Figures]
OURS: Final = "Ratchet"
PLAIN: Final = "plain, padded to 512 tokens"
LONGEST: Final = "plain, padded to the longest"
WITHOUT: Final = "the same without attention dropout"


def measure(questions: int = QUESTIONS, turns: int = TURNS) -> Figures:
    """Samples/s and peak memory of each loop, the medians of its turns."""
    try:
        data, base = preferences.require(preferences.JUDGED), preferences.base()
    except Skipped as why:
        return {"skipped": str(why)}
    with gzip.open(data, "rt") as lines:
        asked = [drawn(json.loads(line)) for line, _ in zip(lines, range(questions), strict=False)]
    loops = {OURS: ours, PLAIN: plain, LONGEST: longest, WITHOUT: without_attention_dropout}
    found: dict[str, list[Figures]] = {name: [] for name in loops}
    for _ in range(turns):
        for name, loop in loops.items():
            found[name].append(alone(loop, base, asked))
    return {"answers": questions * ANSWERS, "loops": {name: middle(each) for name, each in found.items()}, "aim": AIM}


def table(found: Figures) -> Table:
    """For people: a row a loop."""
    shown = Table(header_style="dim", box=None, pad_edge=False)
    if "skipped" in found:
        shown.add_column(f"training: skipped, {found['skipped']}")
        return shown
    shown.add_column(f"training on {found['answers']} answers (aim: {found['aim']} times the plain loop)")
    for column in ("samples/s", "Ratchet is", "samples/CPU s", "Ratchet is", "peak memory"):
        shown.add_column(column, justify="right")
    best = found["loops"][OURS]
    for name, each in found["loops"].items():
        speeds = [
            word
            for key in ("samples_per_second", "samples_per_cpu_second")
            for word in (f"{each[key]:.2f}", f"{best[key] / each[key]:.2f} times")
        ]
        shown.add_row(name, *speeds, f"{each['peak_memory_bytes'] / 2**20:.0f} MB")
    return shown


def drawn(line: Figures) -> Figures:
    """A question with a few of its answers, the same ones each time."""
    answers = random.Random(line["query"]).sample(line["responses"], ANSWERS)
    return {"query": line["query"], "responses": answers}


def middle(turns: Sequence[Figures]) -> Figures:
    """Medians."""
    return {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}


def alone(loop: Loop, base: Path, asked: list[Figures]) -> Figures:
    """What `loop` gives in a fresh process, and that process's peak memory."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (loop, base, asked))


def _measured(loop: Loop, base: Path, asked: list[Figures]) -> Figures:
    return loop(base, asked) | {"peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def ours(base: Path, asked: list[Figures]) -> Figures:
    """One epoch. Samples/s as the loop itself counts them; processor time with validation and checkpoint."""
    from exporters.reward_model import serializer
    from trainer.data import files, inputs, pairs
    from trainer.reward.config import DataConfig, TrainConfig
    from trainer.reward.loop import train

    with tempfile.TemporaryDirectory() as home:
        known = files.read(preferences.write(Path(home) / "train.jsonl", asked))
        rows = inputs.encode(pairs.build(known, DataConfig())[0], serializer(base, MOST_TOKENS))
        few = inputs.encode(pairs.build(known[:1], DataConfig())[0], serializer(base, MOST_TOKENS))
        config = TrainConfig(max_epochs=1, batch_size=BATCH, max_length=MOST_TOKENS)
        began = time.process_time()
        speed = train(base, rows, few, config, Path(home) / "run", seed=1).samples_per_second
        return {
            "samples_per_second": speed,
            "samples_per_cpu_second": len(asked) * ANSWERS / (time.process_time() - began),
        }


def plain(base: Path, asked: list[Figures]) -> Figures:
    """As many write it."""
    return _plain(base, asked, padding="max_length")


def longest(base: Path, asked: list[Figures]) -> Figures:
    """As those write it who have looked at their padding."""
    return _plain(base, asked, padding="longest")


def without_attention_dropout(base: Path, asked: list[Figures]) -> Figures:
    """What is left of the difference when the attention is as fast."""
    return _plain(base, asked, padding="longest", attention_probs_dropout_prob=0.0)


def _plain(base: Path, asked: list[Figures], *, padding: str, **model_options: Any) -> Figures:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    quiet()
    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, **model_options).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.01)
    answers = [(line["query"], one["text"], one["win_rate"]) for line in asked for one in line["responses"]]
    random.Random(1).shuffle(answers)
    began, worked = time.perf_counter(), time.process_time()
    for place in range(0, len(answers), BATCH):
        queries, texts, rates = zip(*answers[place : place + BATCH], strict=True)
        options = {"padding": padding, "truncation": True, "max_length": MOST_TOKENS, "return_tensors": "pt"}
        batch = tokenizer(list(queries), list(texts), **options)
        logits = model(**batch).logits[:, 0]
        loss = torch.nn.functional.mse_loss(logits.sigmoid(), torch.tensor(rates))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return {
        "samples_per_second": len(answers) / (time.perf_counter() - began),
        "samples_per_cpu_second": len(answers) / (time.process_time() - worked),
    }
