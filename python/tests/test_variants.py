# SPDX-License-Identifier: Apache-2.0
"""Variants of texts: what stays, what is replaced, by what; bad arguments."""

from __future__ import annotations

import builtins
import re
import unicodedata
from typing import Any

import pytest

from suture._words import case_of, pieces, with_case
from suture.variants import ContentWordSwapper, function_words

pytest.importorskip("stopwordsiso")

CORPUS = {
    "en": "The kernel opens a socket and closes the pipe. Threads lock every mutex, then signal. "
    "A buffer holds bytes. Linux maps memory pages quickly. The KERNEL and GNU use POSIX. "
    "Printing, logging, reading, caching or parsing takes long. Signals interrupt sleeping calls.",
    "de": "Der Kernel öffnet einen Puffer, das Gerät schreibt Zeichen. Die Anwendung sperrt den "
    "Speicher. Die Übertragung läuft langsam. Eine Kodierung prüft das Verzeichnis.",
    "fr": "Le noyau ouvre un tampon. L'opération écrit des octets, la fonction ferme la connexion. "
    "Les caractères accentués sont lisibles. L'expression évalue la condition.",
    "es": "El núcleo abre una función. La opción imprime caracteres, la versión ocupa memoria. "
    "Los ficheros están vacíos. ¿Dónde está la conexión?",
    "it": "Il nucleo apre una funzione. L'opzione stampa caratteri, dell'operazione restano byte. "
    "I dispositivi sono lenti. La connessione è chiusa.",
}
# By language, and which of its words (letters between anything else) stay.
TEXTS = {
    "en": ("The daemon doesn't write to a queue, it reads.", "the doesn t to a it"),
    "de": ("Das Programm liest die Datei nicht und schließt sie.", "das die nicht und sie"),
    "fr": ("L'option n'affiche pas le fichier.", "l n pas le"),
    "es": ("El programa no lee los datos de la red.", "el no los de la"),
    "it": ("L'utente non legge il file della rete.", "l non il della"),
}


def swapper(language: str = "en", **more: Any) -> ContentWordSwapper:
    return ContentWordSwapper(CORPUS[language].split(". "), language, **more)


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_function_words_stay_and_content_words_go(language: str) -> None:
    text, kept = TEXTS[language]
    swap = swapper(language)
    variants = swap(text, k=5)
    assert len(set(variants)) == 5
    assert text not in variants
    old = re.findall(r"\w+|[^\w]", text)
    for variant in variants:
        new = re.findall(r"\w+|[^\w]", variant)
        assert len(new) == len(old)
        for before, after in zip(old, new, strict=True):
            stays = before.lower() in kept.split() or not before.isalpha()
            assert (after == before) == stays, (before, after)
            assert stays or after.lower() in swap.vocabulary
    # Where there are enough words, a place never has the same one twice.
    last = [re.findall(r"\w+", variant)[-1] for variant in variants]
    assert len(set(last)) == (1 if last[0] in kept.split() else 5)


@pytest.mark.parametrize(
    ("word", "pattern", "expected"),
    [
        ("socket", "KERNEL", "SOCKET"),
        ("SOCKET", "kernel", "socket"),
        ("socket", "Kernel", "Socket"),
        ("puffer", "DATEIen", "PUFFer"),
        ("ab", "DATEIen", "Ab"),
        ("straße", "FILE", "STRASSE"),
        ("ǆep", "File", "ǅep"),
        ("éclair", "Été", "Éclair"),
        ("語", "File", "語"),
    ],
)
def test_case_patterns(word: str, pattern: str, expected: str) -> None:
    assert with_case(word, pattern) == expected


def test_capitals_of_a_text_stay() -> None:
    text = "Daemon QUEUE datum getFileName O_WRONLY"
    for variant in swapper()(text, k=5):
        words = variant.split()
        assert [case_of(word) for word in words[:3]] == ["title", "upper", "lower"]
        assert re.fullmatch(r"[a-z]+[A-Z][a-z]+[A-Z][a-z]+", words[3])
        assert re.fullmatch(r"O_[A-Z]+", words[4])


def test_words_with_the_same_capitals_come_first() -> None:
    """German nouns for nouns, verbs for verbs."""
    nouns = {"anwendung", "übertragung", "kodierung"}
    for variant in swapper("de")("Die Bedienung wartet.", k=3):
        noun, verb = variant.removesuffix(".").split()[1:]
        assert noun.lower() in nouns  # with the same ending
        assert noun[0].isupper()
        assert verb.islower()


def test_endings_stay_where_there_are_enough() -> None:
    swap = swapper()
    ending = {"logging", "reading", "caching", "parsing", "sleeping"}
    assert set(swap("testing", k=5)) == ending
    assert len(set(swap("testing", k=9)) - ending) == 4  # beyond those, others


def test_elision_contraction_hyphen() -> None:
    listed = frozenset(["don't", "l", "d'", "s", "nous-mêmes", "of", "the"])

    def words(text: str) -> list[str]:
        found = pieces(text, listed)
        assert "".join(piece.text for piece in found) == text
        return [piece.text for piece in found if piece.kind == "word"]

    assert words("don't Don\u2019t l'option l\u2019option d'accès") == ["option", "option", "accès"]
    assert words("the file's they're we'll") == ["file", "they", "we"]
    assert words("read-only state-of-the-art nous-mêmes") == ["read", "only", "state", "art"]
    assert words("-a --long=FILE a.out") == ["long", "FILE", "out"]
    assert words("size_t x86_64 utf8 getHTTPName") == ["size", "utf", "get", "HTTPName"]
    assert words("'quoted' \u2019tis") == ["quoted", "tis"]
    assert words("") == []


def test_unicode() -> None:
    decomposed = unicodedata.normalize("NFD", "évaluée")
    assert [p.text for p in pieces(decomposed, frozenset()) if p.kind == "word"] == [decomposed]
    text = "файл открыт, 文件已打开 🙂 ½ x² हिन्दी भाषा ﬁle"
    found = [p.text for p in pieces(text, frozenset()) if p.kind == "word"]
    assert found == ["файл", "открыт", "文件已打开", "हिन्दी", "भाषा", "ﬁle"]
    swap = ContentWordSwapper(["Ядро открывает буфер", "文字列 İstanbul ΣΊΣΥΦΟΣ"], ["и"])
    for variant in swap("Файл 文件 🙂\u200d\ud800 ΦΩΣ", k=2):
        assert variant.split()[2] == "🙂\u200d\ud800"
        assert case_of(variant.split()[0]) == "title"


def test_numbers_keep_their_shape() -> None:
    for variant in swapper()("Version 1.30.007 of 2024-11-05 costs 0 and 1.30", k=5):
        numbers = re.findall(r"\d+", variant)
        assert [len(number) for number in numbers] == [1, 2, 3, 4, 2, 2, 1, 1, 2]
        assert numbers[2].startswith("00")
        assert numbers[5].startswith("0")
        assert numbers[6] == "0"
        assert numbers[:2] == numbers[7:]  # the same number, the same digits
    assert len({re.sub(r"\D", "", v) for v in swapper()("Version 1.30.007", k=5)}) > 1


def test_a_word_that_recurs_becomes_the_same_word() -> None:
    for variant in swapper()("File to FILE, file by file", k=5):
        words = re.findall(r"\w+", variant)
        assert len({words[0].lower(), words[2].lower(), words[3], words[5]}) == 1
        assert words[2].isupper()


def test_deterministic() -> None:
    text = "The daemon reads a queue."
    swap = swapper()
    first = swap(text, k=3)
    swap("Something else entirely", k=5)
    assert swap(text, k=3) == first
    assert swap(text, k=5)[:3] == first
    assert swapper()(text, k=3) == first
    assert swapper(seed=1)(text, k=3) != first
    # Nor does the order of the corpus matter.
    other = ContentWordSwapper(reversed(CORPUS["en"].split(". ")), "en")
    assert other(text, k=3) == first


def test_without_content_words_there_are_no_variants() -> None:
    swap = swapper()
    for text in ("", "and if it is the", "12 + 30", "a b c -x", "…"):
        assert swap(text) == []


def test_small_vocabularies_give_fewer() -> None:
    swap = ContentWordSwapper(["one two three"], [])
    assert sorted(swap("two", k=5)) == ["one", "three"]
    assert ContentWordSwapper(["alone"], [])("alone", k=5) == []
    assert ContentWordSwapper(["alone"], [])("other", k=5) == ["alone"]


def test_frequent_words_are_drawn_more_often() -> None:
    swap = ContentWordSwapper(["kernel " * 98 + "socket buffer"], [])
    texts = [f"thing{'x' * n}" for n in range(200)]
    drawn = [swap(text, k=1)[0] for text in texts]
    assert drawn.count("kernel") > 180  # 196 expected
    assert len(set(drawn)) > 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: function_words("xx"), ValueError, "language is 'xx', expected one of af, ar"),
        (lambda: function_words(3), TypeError, "language is 3, expected a two-letter code"),
        (lambda: ContentWordSwapper("abc", "en"), TypeError, "texts is a str, expected a list"),
        (lambda: ContentWordSwapper(5, "en"), TypeError, "texts is a int, expected a list"),
        (lambda: ContentWordSwapper(["a", 5], "en"), TypeError, r"texts\[1\] is a int, expected"),
        (lambda: ContentWordSwapper(["the and"], "en"), ValueError, "texts have no content word"),
        (lambda: ContentWordSwapper(["word"], 5), TypeError, "function_words is a int, expected"),
        (lambda: ContentWordSwapper(["word"], [5]), TypeError, r"function_words\[0\] is a int"),
        (lambda: ContentWordSwapper(["word"], "xx"), ValueError, "language is 'xx', expected"),
        (lambda: swapper(seed=-1), ValueError, "seed is -1, expected at least 0"),
        (lambda: swapper(seed="1"), TypeError, "seed is '1', expected a whole number"),
        (lambda: swapper()("text", k=0), ValueError, "k is 0, expected at least 1"),
        (lambda: swapper()("text", k=1.5), TypeError, "k is 1.5, expected a whole number"),
        (lambda: swapper()(b"text"), TypeError, "text is a bytes, expected a text"),
    ],
)
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_without_the_lists_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any) -> Any:
        if name == "stopwordsiso":
            raise ImportError("no module", name=name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"stopwordsiso is missing: pip install 'suture\[varia"):
        function_words("en")
    # Lists of one's own need nothing.
    assert ContentWordSwapper(["word other"], ["the"])("the word", k=1) == ["the other"]
