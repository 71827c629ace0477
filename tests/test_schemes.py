"""The table of schemes: every row is measured, every formula holds, every scheme has a row."""

import pytest

from posenc.layers.t5 import T5
from posenc.layers.urpe import Urpe
from scripts import schemes as measuring
from scripts.figures import relative as figures
from scripts.schemes import SCHEMES, Sizes, costs_of, evaluate, positions_of
from scripts.sitegen import doors
from scripts.sitegen import schemes as shown
from scripts.sitegen.tree import ROOT

SIZES = [
    Sizes(b=1, n=8, d=16, h=2, N=9, k=3, B=8),
    Sizes(b=2, n=12, d=24, h=3, N=20, k=4, B=16),
    Sizes(b=3, n=5, d=48, h=6, N=7, k=2, B=32),
    Sizes(),
]
COSTS = ("parameters", "held", "flops")


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("sizes", SIZES)
def test_every_formula_gives_what_is_counted(name, sizes):
    want = {cost: evaluate(getattr(SCHEMES[name], cost), sizes) for cost in COSTS}
    assert costs_of(name, sizes) == want


def test_every_scheme_that_acts_within_attention_has_a_row():
    inside = {"rotate", "bias", "reweight", "combine"}
    acting = {name for name, methods in doors.opened().items() if inside.intersection(methods)}
    assert acting <= SCHEMES.keys()
    assert SCHEMES.keys() <= doors.opened().keys()


TERMS = {
    "PositionEncoding": ("none", "absent", "absent", "absent"),
    "Sinusoidal": ("none", "key", "query", "both"),
    "Learned": ("none", "key", "query", "both"),
    "Rope": ("offset", "absent", "absent", "absent"),
    "Tupe": ("none", "absent", "absent", "both"),
    "ShawKeys": ("none", "offset", "absent", "absent"),
    "Shaw": ("none", "offset", "absent", "absent"),
    "TransformerXL": ("none", "offset", "none", "offset"),
    "T5": ("none", "absent", "absent", "offset"),
    "Deberta": ("none", "offset", "offset", "absent"),
    "Urpe": ("none", "absent", "absent", "absent"),
    "Alibi": ("none", "absent", "absent", "offset"),
}


@pytest.mark.parametrize("name", TERMS)
def test_the_terms_depend_on_what_their_formula_says(name):
    assert positions_of(name)["terms"] == TERMS[name]


BEHIND = {
    "Sinusoidal": ("key", "none"),
    "Learned": ("key", "none"),
    "Shaw": ("offset", "none"),
    "Urpe": ("none", "offset"),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_a_door_that_is_shut_knows_no_position(name):
    found, opened = positions_of(name), doors.opened()[name]
    assert (found["values"], found["weights"]) == BEHIND.get(name, ("none", "none"))
    assert (found["values"] != "none") == bool({"embed", "combine"}.intersection(opened))
    assert (found["weights"] != "none") == ("reweight" in opened)


PICTURE = {
    "nope": "PositionEncoding",
    "absolute": "Sinusoidal",
    "shaw": "Shaw",
    "xlnet": "TransformerXL",
    "t5": "T5",
    "deberta": "Deberta",
    "urpe": "Urpe",
    "rope": "Rope",
    "tupe": "Tupe",
}


def test_the_picture_of_the_four_terms_shows_what_the_layers_do(monkeypatch):
    over_t5 = measuring.Scheme(lambda s: Urpe(T5(s.h, s.B), s.h, s.k), "", "", "")
    monkeypatch.setitem(SCHEMES, "Urpe", over_t5)
    found = {name: positions_of(layer) for name, layer in PICTURE.items()}
    shown_there = {
        name: (*row["terms"], row["values"], row["weights"]) for name, row in found.items()
    }
    assert figures.choices_data() == shown_there


def test_positions_in_the_values_and_behind_the_softmax_are_noticed(monkeypatch):
    class Behind(measuring.PositionEncoding):
        def reweight(self, weights, q_positions, k_positions):
            return weights * k_positions

        def combine(self, weights, v, q_positions, k_positions):
            return weights @ (v + k_positions.unsqueeze(-1))

    scheme = measuring.Scheme(lambda sizes: Behind(), "0", "b h n^2", "0")
    monkeypatch.setitem(SCHEMES, "PositionEncoding", scheme)
    assert positions_of("PositionEncoding") == {
        "terms": TERMS["PositionEncoding"],
        "values": "key",
        "weights": "key",
    }
    assert costs_of("PositionEncoding", SIZES[1])["held"] == evaluate("b h n^2", SIZES[1])


def test_a_formula_is_made_of_sizes_only():
    sizes = Sizes(n=3, d=10, h=2, k=4)
    assert evaluate("4 n d^2 + (2 k - 1) h + d_h", sizes) == 4 * 3 * 100 + 7 * 2 + 5
    assert evaluate("0", sizes) == 0
    for wrong in ("n.real", "n, d", "n'"):
        with pytest.raises(ValueError, match=r"^formula must be made of sizes, numbers"):
            evaluate(wrong, sizes)
    with pytest.raises(NameError, match="Q"):
        evaluate("Q", sizes)


# --- the table ---------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["terms", "costs"])
def test_both_languages_have_the_same_table_but_for_words(which):
    zh, en = (shown.table(language, which).splitlines() for language in ("zh", "en"))
    assert len(zh) == len(en) == 2 + len(SCHEMES)
    assert all(line.count(" | ") == zh[0].count(" | ") for line in (*zh, *en))
    numbers = [[line.split("$")[1::2] for line in lines] for lines in (zh, en)]
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_page_names_the_sizes_that_were_counted(language):
    page = (ROOT / f"docs/{language}/relative.md").read_text("utf-8")
    for letter, size in Sizes()._asdict().items():
        assert f"${letter} = {size}$" in page


def test_rows_can_be_picked():
    terms = shown.table("en", "terms", "Tupe,PositionEncoding").splitlines()[2:]
    assert [line.split("`")[1] for line in terms] == ["Tupe", "NoPE"]
    assert terms[0] == "| [`Tupe`](relative.md) | free | – | – | $i, j$ | – | – |"
    [costs] = shown.table("zh", "costs", "Tupe").splitlines()[2:]
    assert "| $N d + 2 d^2$ = 1,572,864 | $h n^2$ = 3,145,728 |" in costs
    with pytest.raises(KeyError, match="Nothing"):
        shown.table("en", "terms", "Nothing")
    with pytest.raises(ValueError, match=r"^no table of 'doors'; there are terms, costs$"):
        shown.table("en", "doors")


def test_what_fails_is_said_and_not_kept(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/__init__.py").touch()
    (tmp_path / "scripts/schemes.py").write_text("raise ValueError('no such scheme')\n")
    with pytest.raises(ValueError, match=r"^schemes could not be measured: .*no such scheme"):
        shown.measured(tmp_path)
    assert not (tmp_path / ".cache").exists()
    (tmp_path / "scripts/schemes.py").write_text("print('{\"A\": 1}')\n")
    assert shown.measured(tmp_path) == {"A": 1}
    assert len(list((tmp_path / ".cache/schemes").iterdir())) == 1
