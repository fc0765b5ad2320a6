# SPDX-License-Identifier: Apache-2.0
import gzip
import lzma

import pytest

from suture.texts import read_records, read_texts


def test_reads_plain_json_lines_and_compressed_files(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "é"}\n\n{"text": "b", "lang": "en"}\n', "utf-8")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write('{"text": "c"}\n')
    with lzma.open(tmp_path / "c.txt.xz", "wt", encoding="utf-8") as file:
        file.write("two\nlines")
    paths = [tmp_path / name for name in ("a.jsonl", "b.jsonl.gz", "c.txt.xz")]
    assert read_texts(*paths) == ["é", "b", "c", "two\nlines"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"text": "a"}\n{"txt": 1}\n', ["line 2", '"text"']),
        (b'["a"]\n', ["line 1", "expected a JSON object"]),
        (b'{"text": 3}\n', ["line 1", "expected a string"]),
        (b'{"text": \n', ["line 1"]),
        (b"\xff\xfe\n", ["damaged"]),
    ],
)
def test_names_the_file_and_the_line(tmp_path, content, words):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.jsonl") as caught:
        read_texts(path)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_a_file_cut_short_is_told(tmp_path, suffix):
    module = {".gz": gzip, ".xz": lzma}[suffix]
    whole = module.compress(b'{"text": "hello hello hello"}\n' * 100)
    path = tmp_path / f"cut.jsonl{suffix}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut short"):
        read_texts(path)


def test_no_paths():
    with pytest.raises(ValueError, match="paths is empty"):
        read_texts()


def test_records_keep_what_stands_beside_the_text(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"lang": "de", "text": "eins", "n": 1}\n', "utf-8")
    (tmp_path / "b.txt").write_text("zwei", "utf-8")
    found = read_records(tmp_path / "a.jsonl", tmp_path / "b.txt")
    assert found == [{"lang": "de", "text": "eins", "n": 1}, {"text": "zwei"}]
