"""What a word is, and how passages are ranked by them: the laws that all stores share."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.stores import keywords
from orchestra.stores.keywords import Collected, ranked, telling, words_asked, words_of

texts = st.text(max_size=40) | st.lists(
    st.sampled_from(
        [
            "door",
            "Tür",
            "İstanbul",
            "E-1234",
            "東京都",
            "猫",
            "हिन्दी",
            "\uff46\uff55\uff4c\uff4c",
            "_",
            "..",
            "ﬁ",
        ]
    )
).map(" ".join)


@given(texts)
def test_a_text_has_every_word_that_it_asks_for(text: str) -> None:
    """So a passage is always found by its own words."""
    assert set(words_asked(text)) <= words_of(text, {}).keys()


@given(texts, texts)
def test_a_part_of_a_text_has_no_word_that_the_whole_lacks(one: str, other: str) -> None:
    assert words_of(one, {}) <= words_of(f"{one} {other}", {})


UNSEEN = "\u00ad\u200b\u200c\u200d\u200e\u2060\ufe0f\ufeff\U000e0100"
MARKS = "\u0301\u0308\u05b8\u064e\u0651\u0640"


@given(texts, st.data())
def test_what_is_not_seen_and_accents_make_no_other_words(text: str, data: st.DataObject) -> None:
    """A soft hyphen of a PDF, a joiner of Persian, vowel points of Hebrew and Arabic."""
    marked = text
    for added in data.draw(st.text(st.sampled_from(UNSEEN + MARKS), max_size=5)):
        at = data.draw(st.integers(0, len(marked)))
        marked = marked[:at] + added + marked[at:]
    assert words_of(marked, {}) == words_of(text, {})


@given(texts)
def test_a_word_is_letters_and_digits_that_no_case_changes(text: str) -> None:
    """FTS5 takes such words as they are, and splits at nothing in them."""
    for word in words_of(text, {}):
        assert word
        assert len(word) <= keywords.WORD_CHARS
        assert not any(each.isspace() or (each.isascii() and not each.isalnum()) for each in word)
        assert word == word.lower() or not word.isascii()


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Die TÜR, café & Straße", ["die", "tur", "cafe", "strasse"]),
        ("first_chunk_s", ["first", "chunk", "s", "firstchunks"]),
        ("E-1234 v1.2", ["e", "1234", "e1234", "v1", "2", "v12"]),
        ("東京都、猫", ["東京", "京都", "猫"]),
        ("한국어 검색", ["한국", "국어", "검색"]),
        ("iPhone15を買う", ["iphone15", "を買", "買う"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("\uff46\uff55\uff4c\uff4c ² ﬁ", ["full", "2", "fi"]),
        ("and/or, a--b __init__", ["and", "or", "andor", "a", "b", "ab", "init"]),
        ("door door DOOR", ["door"]),
        ("exam\u00adple Łódź Ærø ILIKÇA \u0131l\u0131kça", ["example", "lodz", "aero", "ilikca"]),
        ("می\u200cخواهم مُحَمَّد أحمد", ["میخواهم", "محمد", "احمد"]),  # noqa: RUF001 - no Latin letters
        ("שָׁלוֹם", ["שלום"]),
        ("葛\U000e0100城", ["葛城"]),
        ("E\u20111234, col·lega", ["e", "1234", "e1234", "col", "lega", "collega"]),
    ],
)
def test_words(text: str, asked: list[str]) -> None:
    assert words_asked(text) == asked


@pytest.mark.parametrize(
    "question",
    [
        "先週から社内の共有フォルダーに保存した資料を開こうとすると、毎回エラーが表示されて作業を続けることが"
        "できないのですが、管理者に連絡する前に自分で確認できる設定を教えてください",
        "เมื่อฉันพยายามเปิดไฟล์ที่บันทึกไว้ในโฟลเดอร์ที่ใช้ร่วมกันของบริษัท จะมีข้อผิดพลาดปรากฏขึ้นทุกครั้ง ควรตรวจสอบการตั้งค่าใด",
    ],
)
def test_a_question_without_spaces_counts_to_its_end(question: str) -> None:
    assert question[-2:] in words_asked(question)


@pytest.mark.parametrize(("text", "asked"), [("東京都に住む", "京"), ("a_b", "AB"), ("Tür", "tur")])
def test_what_is_asked_is_in_the_text(text: str, asked: str) -> None:
    assert set(words_asked(asked)) <= words_of(text, {}).keys()


def test_a_long_run_of_accents_is_read_in_linear_time() -> None:
    """In quadratic time, this megabyte, which may be somebody's passage, would take two minutes."""
    assert words_of("a" + "\u0301\u0316" * 250_000 + " b", {}) == {"a": 1, "b": 1}


def test_the_heading_counts_and_other_metadata_does_not() -> None:
    assert words_of("text", {"heading": "A head", "kind": "x"}) == {"a": 1, "head": 1, "text": 1}
    assert words_of("text", {"heading": 5}) == {"text": 1}


counts = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 30_000))


@given(counts)
def test_a_search_counts_a_bounded_number_of_hits(counts: Mapping[str, int]) -> None:
    """Those of the rarest words: what is left out is more common than all that counts."""
    chosen = telling(counts)
    assert sum(counts[word] for word in chosen) <= keywords.HITS_MAX
    left = [count for word, count in counts.items() if count and word not in chosen]
    assert all(counts[word] <= count for word in chosen for count in left)
    if left:
        assert sum(counts[word] for word in chosen) + min(left) > keywords.HITS_MAX


hits = st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 5)), max_size=4)


@given(hits, st.integers(1, 9))
def test_a_score_grows_with_each_hit(hits: list[dict[str, int]], more: int) -> None:
    """All that have a word are ranked, above 0; one more of a word never ranks a passage lower."""
    names = sorted({name for each in hits for name in each})
    lengths = dict.fromkeys("abcdef", 20)
    collected = Collected(6, 120)
    found = dict(ranked(hits, lengths, collected))
    assert sorted(found) == names
    assert all(score > 0 for score in found.values())
    if names:
        raised = [{k: v + more if k == names[0] else v for k, v in each.items()} for each in hits]
        again = dict(ranked(raised, lengths, collected))
        assert again[names[0]] > found[names[0]]
        assert all(again[name] == found[name] for name in names[1:])


def test_a_rare_word_and_a_short_text_count_more() -> None:
    lengths = {"a": 10, "b": 10, "c": 40}
    found = ranked([{"a": 1}, {"b": 1, "c": 1}], lengths, Collected(10, 200))
    assert [name for name, _ in found] == ["a", "b", "c"]
