"""A question finds the documents that share its words, in any script."""

import unicodedata

import numpy as np
import pytest

from blocklm.retrieval.bm25 import WordIndex, terms

# For each script: what a document says, a question that shares a part of a clause, and a text that shares none.
SPACELESS = {
    "Chinese": ("修复数据库连接超时的问题", "连接超时怎么办", "添加用户登录页面"),
    "Japanese": ("接続のタイムアウトを直す処理", "タイムアウト", "新しい画面の配色"),
    "half-width Japanese": ("接続のタイムアウトを直す処理", "ﾀｲﾑｱｳﾄ", "新しい画面の配色"),
    "Korean": ("데이터베이스연결시간초과를수정", "연결시간", "새로운화면색상"),
    "Thai": ("แก้ไขการเชื่อมต่อหมดเวลา", "การเชื่อมต่อ", "หน้าใหม่สวย"),
    "Khmer": ("ជួសជុលការតភ្ជាប់មូលដ្ឋាន", "ការតភ្ជាប់", "ទំព័រថ្មី"),
    "rare Chinese": ("\U00020000\U00020001\U00020002", "\U00020001\U00020002", "\U00020003\U00020004"),
}


@pytest.mark.parametrize("script", SPACELESS)
def test_a_part_of_a_clause_without_spaces_is_found(script: str) -> None:
    text, question, other = SPACELESS[script]
    scores = WordIndex.build([f"# {other}\nx = 1", f"# {text}\nx = 1", "x = 1"]).scores(question)
    assert scores[1] > 0
    assert int(np.argmax(scores)) == 1


def test_the_terms_of_such_a_script_are_its_pairs() -> None:
    assert terms("连接超时") == ["连接", "接超", "超时"]
    assert terms("修复。连接!") == ["修复", "连接"]
    assert terms("한글 띄어쓰기") == ["한글", "띄어", "어쓰", "쓰기"]


def test_a_single_character_is_a_word() -> None:
    assert terms("鉄 x が") == ["鉄", "x", "が"]


def test_a_mixed_identifier_is_parted_where_the_script_changes() -> None:
    assert terms("取得HTTPData_v2キャッシュ") == [
        "取得", "http", "data", "v2", "httpdata_v2", "キャ", "ャッ", "ッシ", "シュ",
    ]  # fmt: skip


def test_an_identifier_with_letters_beyond_ascii_is_one_term() -> None:
    assert "grö" in terms("grö")
    assert terms("функция") == ["функция"]


@pytest.mark.parametrize("text", ["größe", "がぎぐ", "연결"])
def test_a_character_and_its_parts_are_the_same(text: str) -> None:
    """File names from macOS have decomposed characters."""
    assert terms(unicodedata.normalize("NFD", text)) == terms(unicodedata.normalize("NFC", text))
