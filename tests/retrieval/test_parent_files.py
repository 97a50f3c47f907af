"""Retrieved pieces come from the files before the commit of their question."""

from collections.abc import Callable, Sequence

import numpy as np

from blocklm.git.repository import Repository, open_repository
from blocklm.retrieval.bm25 import terms
from blocklm.retrieval.parent_files import RetrievalQuery, nearest_before
from tests.conftest import GitRepository, function

RUST = frozenset({".rs"})
HANDLER = "fn handle_request(query: QueryString) -> Reply {\n    reply_with(query.decode())\n}\n"


def opened(repository: GitRepository) -> Repository:
    return open_repository(repository.path, repository.path.parent)


def test_identifiers_are_compared_in_parts() -> None:
    assert terms("parseHTTPHeader_v2(größe)") == [
        "parse",
        "http",
        "header",
        "v2",
        "parsehttpheader_v2",
        "gr",
        "e",
        "größe",
    ]


def test_only_files_of_the_parent_commit_are_found(make_repository: Callable[[str], GitRepository]) -> None:
    repository = make_repository("server")
    repository.commit("Begin", {"old.rs": "fn other() {}\n", "notes.py": HANDLER})
    before = repository.commit("Handle", {"server.rs": HANDLER})
    after = repository.commit("Decode", {"decode.rs": HANDLER.replace("handle", "decode")})
    later = repository.commit("Later", {"x.rs": "x\n"})
    questions = [RetrievalQuery(sha, "handle a request: query string") for sha in (before, after, later, "f" * 40)]
    found = nearest_before([opened(repository)], questions, RUST, 5)
    assert [[piece.path for piece in pieces] for pieces in found] == [
        [],
        ["server.rs"],
        ["server.rs", "decode.rs"],
        [],
    ]


def test_retrieved_pieces_do_not_repeat_the_question(make_repository: Callable[[str], GitRepository]) -> None:
    repository = make_repository("server")
    repository.commit("Handle", {"server.rs": HANDLER})
    later = repository.commit("Later", {"x.rs": "x\n"})
    queries = [
        RetrievalQuery(later, HANDLER),
        RetrievalQuery(later, "handle_request", shown=f"// the file around it\n{HANDLER}"),
        RetrievalQuery(later, "--- !?\n"),
    ]
    assert nearest_before([opened(repository)], queries, RUST, 5) == [[], [], []], (
        "nor anything for a question of no words"
    )


def test_secrets_of_old_files_are_redacted_and_binary_files_are_skipped(
    make_repository: Callable[[str], GitRepository],
) -> None:
    repository = make_repository("server")
    key = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    files: dict[str, str | bytes | None] = {
        "server.rs": f'{HANDLER}let token = "{key}";\n',
        "latin.rs": HANDLER.encode("utf-16"),
        "huge.rs": HANDLER * 5000,
    }
    repository.commit("Handle", files)
    later = repository.commit("Later", {"x.rs": "x\n"})
    ((piece,),) = nearest_before([opened(repository)], [RetrievalQuery(later, "the query of a request")], RUST, 5)
    assert "<KEY>" in piece.text
    assert key not in piece.text


def test_each_commit_is_looked_for_in_every_repository(make_repository: Callable[[str], GitRepository]) -> None:
    first, second = make_repository("one"), make_repository("two")
    later = []
    for number, repository in enumerate((first, second)):
        repository.commit("Begin", {f"steps_{number}.py": function(number)})
        later.append(repository.commit("Later", {"x.py": f"{number}\n"}))
    questions = [RetrievalQuery(sha, "def step") for sha in later]
    found = nearest_before([opened(first), opened(second)], questions, frozenset({".py"}), 5)
    assert [[piece.path for piece in pieces] for pieces in found] == [["steps_0.py"], ["steps_1.py"]]


def test_embeddings_rerank_the_hits_of_words(make_repository: Callable[[str], GitRepository]) -> None:
    """Of four pieces, the one ranked third by words and first by embeddings wins: 1/13 + 1/11 > 1/11 + 1/14."""
    repository = make_repository("server")
    files = {
        f"{name}.rs": f"fn {name}() {{ {'request ' * times}}}\n"
        for name, times in zip("abcd", (8, 4, 2, 1), strict=True)
    }
    repository.commit("Begin", files)
    later = repository.commit("Later", {"x.rs": "x\n"})
    question = [RetrievalQuery(later, "request")]
    texts: list[str] = []

    def embed(given: Sequence[str]) -> np.ndarray:
        texts.extend(given)
        liked = {"request": 1.0, files["c.rs"]: 1.0, files["d.rs"]: 0.9, files["b.rs"]: 0.8}
        return np.array([[liked.get(text, 0.0)] for text in given], np.float32)

    by_words = [piece.path for piece in nearest_before([opened(repository)], question, RUST, 4)[0]]
    by_both = [piece.path for piece in nearest_before([opened(repository)], question, RUST, 4, embed)[0]]
    assert by_both[0] == by_words[2] == "c.rs"
    assert sorted(by_both) == sorted(by_words)
    assert len(texts) == 5
