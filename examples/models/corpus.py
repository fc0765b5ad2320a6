# SPDX-License-Identifier: Apache-2.0
"""Plain text of Debian's manual pages in several languages, with a held-out split.

Pages are rendered with groff (one paragraph a line, no hyphenation), cleaned,
stripped of duplicates, and written as JSON lines with the fields ``lang``,
``page`` and ``text``.  A page belongs to the held-out side in every language
or in none: the split is a hash of its name.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

#: Debian packages that hold each language's pages.
PACKAGES: dict[str, tuple[str, ...]] = {
    "en": ("manpages", "manpages-dev"),
    "de": ("manpages-de",),
    "fr": ("manpages-fr",),
    "es": ("manpages-es",),
    "it": ("manpages-it",),
}

#: Share of page names that is held out, in thousandths, and the salt of the hash
#: (picked so that every language holds out 3 to 5 % of its characters).
HELDOUT_PER_MILLE, HELDOUT_SALT = 40, "30"

#: At most this many characters of one language's training and held-out text.
TRAIN_CAP, HELDOUT_CAP = 1_000_000, 60_000

#: A paragraph of at least this many characters may be repeated this often in a language.
REPEAT_LENGTH, REPEAT_LIMIT = 60, 8

#: Sections that only credit the translators, dropped by their headings.
_TRANSLATION_HEADINGS = frozenset({"ÜBERSETZUNG", "TRADUCTION", "TRADUCCIÓN", "TRADUZIONE"})
_GROFF = ("groff", "-Kutf8", "-t", "-mandoc", "-Tutf8", "-P-cbou", "-rLL=5000n", "-rHY=0", "-rcR=1")
_RULE = re.compile(r"[ ─│┌┐└┘├┤┬┴┼═]+")
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Page:
    """One manual page in one language."""

    lang: str
    page: str
    text: str


def digest(text: str) -> int:
    """A hash of ``text`` that is the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def is_heldout(page: str) -> bool:
    """Whether a page (such as ``chmod.1``) is held out; its section does not count."""
    stem = page.rsplit(".", 1)[0].lower()
    return digest(f"{HELDOUT_SALT}:{stem}") % 1000 < HELDOUT_PER_MILLE


def require_packages() -> dict[str, str]:
    """Versions of the Debian packages; exits with the apt line if some are missing."""
    wanted = [name for names in PACKAGES.values() for name in names]
    versions: dict[str, str] = {}
    if shutil.which("dpkg-query"):
        shown = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status} ${Version}\n", *wanted],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        for line in shown.splitlines():
            name, status, *version = line.split(" ")
            if status == "installed":
                versions[name] = version[0]
    missing = [name for name in wanted if name not in versions]
    if not shutil.which("groff"):
        missing.append("groff-base")
    if missing:
        raise SystemExit(
            "These Debian packages are needed to rebuild the corpus:\n"
            f"  sudo apt-get install {' '.join(missing)}"
        )
    return versions


def page_files(lang: str) -> list[Path]:
    """The compressed pages of a language's packages, without symbolic links."""
    listed = subprocess.run(
        ["dpkg", "-L", *PACKAGES[lang]], capture_output=True, text=True, check=True
    ).stdout
    paths = [Path(line) for line in listed.splitlines() if line.endswith(".gz") and "/man/" in line]
    return sorted(path for path in paths if path.is_file() and not path.is_symlink())


def clean(rendered: str) -> str:
    """Readable text from groff's output: no running titles, shallow indents, single blank lines."""
    lines = [line.rstrip() for line in rendered.split("\n")]
    filled = [i for i, line in enumerate(lines) if line]
    if len(filled) < 3:
        return ""
    kept: list[str] = []
    skipping = False
    for line in lines[filled[0] + 1 : filled[-1]]:
        body = line.lstrip(" ")
        indent = len(line) - len(body)
        if body and _RULE.fullmatch(body):  # a table's frame
            continue
        body = body.strip("│ ").replace("│", " ")
        if body and indent == 0:
            skipping = body.split()[0] in _TRANSLATION_HEADINGS
        if skipping or (not body and (not kept or not kept[-1])):
            continue
        # The text column of a page is the seventh; code and lists keep two spaces a level.
        depth = 0 if indent <= 7 else min(4, (indent - 4) // 4)
        kept.append("  " * depth + re.sub(r" {3,}", "  ", body))
    return "\n".join(kept).strip() + "\n"


def render(path: Path) -> str:
    """One page as clean text; empty for a redirect or a page that has no text of its own."""
    source = gzip.decompress(path.read_bytes())
    if source.lstrip().startswith(b".so ") or b"\n.so man" in source:
        return ""
    done = subprocess.run(
        _GROFF, input=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    return clean(done.stdout.decode("utf-8", "replace"))


def limit_repeats(pages: Iterable[Page]) -> Iterator[Page]:
    """Drop identical pages, and paragraphs (licences, addresses) that many pages repeat."""
    seen_pages: set[str] = set()
    seen: Counter[str] = Counter()
    for page in pages:
        if page.text in seen_pages:
            continue
        seen_pages.add(page.text)
        kept: list[str] = []
        for line in page.text.split("\n"):
            key = line.strip()
            if len(key) >= REPEAT_LENGTH:
                seen[key] += 1
                if seen[key] > REPEAT_LIMIT:
                    continue
            if line or (kept and kept[-1]):
                kept.append(line)
        text = "\n".join(kept).strip() + "\n"
        if len(_LETTER.findall(text)) >= 200:
            yield Page(page.lang, page.page, text)


def build_language(lang: str) -> list[Page]:
    """All usable pages of one language, in the order of their hashes (a fixed shuffle)."""
    paths = sorted(page_files(lang), key=lambda path: digest(f"{path.parent.name}/{path.name}"))
    with ThreadPoolExecutor() as pool:
        texts = list(pool.map(render, paths))
    pages = (
        Page(lang, path.name.removesuffix(".gz"), text)
        for path, text in zip(paths, texts, strict=True)
        if text
    )
    return list(limit_repeats(pages))


def build(folder: Path) -> dict[str, list[Page]]:
    """Every language's pages, rendered once and cached in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus: dict[str, list[Page]] = {}
    for lang in PACKAGES:
        cache = folder / f"{lang}.jsonl.gz"
        if not cache.exists():
            require_packages()
            write_pages(cache, build_language(lang))
        corpus[lang] = read_pages(cache)
    return corpus


def write_pages(path: Path, pages: Iterable[Page]) -> None:
    """Write pages as compressed JSON lines; the same pages give the same bytes."""
    body = "".join(json.dumps(asdict(page), ensure_ascii=False) + "\n" for page in pages)
    part = path.with_name(path.name + ".part")
    part.write_bytes(gzip.compress(body.encode(), 9, mtime=0))
    part.replace(path)


def read_pages(path: Path) -> list[Page]:
    """Read what :func:`write_pages` wrote."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [Page(**json.loads(line)) for line in file]
