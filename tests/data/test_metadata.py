from __future__ import annotations

from pathlib import Path

import pytest

from carrara.data.metadata import captions, metadata_file
from carrara.errors import DataError

NAMES = {"a.png", "sub/b.png", "é.png"}


def write(root: Path, text: str, name: str = "metadata.jsonl", encoding: str = "utf-8") -> Path:
    (root / name).write_text(text, encoding=encoding)
    return root / name


def test_jsonl_rows_are_read(root: Path) -> None:
    file = write(
        root, '{"file_name": "./a.png", "text": "a cat", "more": 3}\n\n{"file_name": "sub/b.png", "text": null}\n'
    )
    assert captions(file, NAMES) == {"a.png": "a cat", "sub/b.png": ""}


def test_csv_rows_are_read_with_quotes_newlines_and_a_byte_order_mark(root: Path) -> None:
    text = 'file_name,text\na.png,"a cat, ""Tom"",\nasleep"\nsub/b.png,\n'
    file = write(root, text, "metadata.csv", "utf-8-sig")
    assert captions(file, NAMES) == {"a.png": 'a cat, "Tom",\nasleep', "sub/b.png": ""}


def test_a_decomposed_name_meets_its_picture(root: Path) -> None:
    file = write(root, '{"file_name": "e\\u0301.png", "text": "accent"}')
    assert captions(file, NAMES) == {"é.png": "accent"}


def test_a_folder_without_metadata_has_no_file_and_two_are_one_too_many(root: Path) -> None:
    assert metadata_file(root) is None
    file = write(root, "")
    assert metadata_file(root) == file
    write(root, "", "metadata.csv")
    with pytest.raises(DataError, match=r"both metadata\.jsonl and metadata\.csv: keep one"):
        metadata_file(root)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"file_name": "gone.png", "text": "x"}', "names gone.png, which is not among the pictures"),
        ('{"file_name": "../a.png", "text": "x"}', "names ../a.png, which is not among the pictures"),
        ('{"file_name": "a.png", "text": "x"}', "names a.png a second time"),
        ('{"file": "a.png", "text": "x"}', "has no file_name; its columns are file, text"),
        ('{"file_name": "sub/b.png", "caption": "x"}', "has no column text; its columns are file_name, caption"),
        ('{"file_name": "sub/b.png", "text": 3}', "has the text 3: a caption is a string or null"),
        ('{"file_name": "sub/b.png",', "is no JSON"),
        ("[1, 2]", "is no JSON object"),
    ],
)
def test_a_bad_row_is_named_by_its_line(root: Path, line: str, words: str) -> None:
    file = write(root, '{"file_name": "a.png", "text": "a cat"}\n' + line + "\n")
    with pytest.raises(DataError) as refusal:
        captions(file, NAMES)
    assert f"{file} line 2 " in str(refusal.value)
    assert words in str(refusal.value)


def test_a_file_of_another_encoding_is_named(root: Path) -> None:
    file = root / "metadata.csv"
    file.write_bytes("file_name,text\na.png,Käse\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"metadata\.csv cannot be read: .*Save it again as UTF-8"):
        captions(file, NAMES)
