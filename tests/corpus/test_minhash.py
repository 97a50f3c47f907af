"""Near-duplicates are found by their shingles, and by those alone."""

import random
import re

from blocklm.corpus.minhash import MIN_JACCARD, ShingledTexts
from tests.conftest import function


def shingles(text: str) -> set[tuple[str, ...]]:
    tokens = re.findall(r"\w+|[^\w\s]", text)
    return {tuple(tokens[at : at + 5]) for at in range(len(tokens) - 4)}


def jaccard(one: str, other: str) -> float:
    here, there = shingles(one), shingles(other)
    return len(here & there) / max(1, len(here | there))


def texts(count: int) -> list[str]:
    """Functions with some words exchanged, so that all degrees of likeness occur; the same on each call."""
    chance = random.Random(3)
    words = [f"name_{number}" for number in range(300)]
    bases = [[chance.choice(words) for _ in range(120)] for _ in range(20)]
    made = []
    for _ in range(count):
        tokens = list(chance.choice(bases))
        for _ in range(chance.randrange(12)):
            tokens[chance.randrange(len(tokens))] = chance.choice(words)
        made.append(" ".join(tokens) + "\n    é = x[0]")
    return made


def test_the_similarity_is_the_exact_jaccard_index() -> None:
    some = [*texts(60), function(1), function(1, "return 2"), "a b", "", "\n"]
    shingled = ShingledTexts(some)
    for one in range(len(some)):
        for other in range(one):
            assert abs(shingled.jaccard(one, other) - jaccard(some[one], some[other])) < 1e-9


def test_a_search_finds_the_same_as_comparing_all() -> None:
    some = texts(200)
    shingled = ShingledTexts(some)
    probes, others = range(50), range(50, 200)
    true = {one for one in probes if any(jaccard(some[one], some[other]) >= MIN_JACCARD for other in others)}
    assert 10 < len(true) < 50
    assert shingled.similar(probes, others) == true


def test_the_newest_of_similar_texts_stays() -> None:
    some = texts(200)
    repeated = ShingledTexts(some).newer_duplicates()
    kept = [at for at in range(200) if at not in repeated]
    assert 20 <= len(kept) < 190
    for older, newer in repeated.items():
        assert older < newer
        assert newer not in repeated
        assert jaccard(some[older], some[newer]) >= MIN_JACCARD
    assert not any(jaccard(some[one], some[other]) >= MIN_JACCARD for one in kept for other in kept if one < other)


def test_short_texts_are_similar_to_none() -> None:
    assert ShingledTexts(["a b", "a b", "", ""]).newer_duplicates() == {}
    assert len(ShingledTexts([])) == 0
