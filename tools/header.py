#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes Include/suture.h from what the Swift compiler emits for SutureABI, and from its comments.

    tools/header.py BUILD                write Include/suture.h
    tools/header.py BUILD --check        fail if it would change, or if the functions it declares
                                         are not exactly those that libsuture.so exports

BUILD is the folder of a finished library build, such as .build-lib/release. Types come from the
compiler's own header (BUILD/SutureABI.build/include/SutureABI-Swift.h), comments, order and names
of parameters from the Swift sources, the introduction from tools/suture.h.in.
"""

import argparse
import difflib
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "Sources" / "SutureABI"
HEADER = ROOT / "Include" / "suture.h"
WIDTH = 100

# Files of Sources/SutureABI that declare functions, in the order a reader needs them.
SECTIONS = [
    "Library",
    "Alignment",
    "Norms",
    "Moments",
    "Stitch",
    "Autoencoder",
    "Codes",
    "Evaluation",
    "Steering",
    "Sites",
    "Transfer",
    "Training",
    "TrainingRuns",
    "TrainingPull",
    "Fidelity",
    "Matches",
    "Carrying",
    "Latents",
    "Analysis",
    "Probes",
]


class HeaderError(Exception):
    """What is wrong, for the person who runs this."""


@dataclass
class Function:
    name: str
    comment: list[str]
    parameters: list[str]


@dataclass
class Section:
    title: str
    introduction: list[str]
    functions: list[Function]


def emitted_prototypes(text: str) -> dict[str, tuple[str, list[str]]]:
    """Result and parameters of each function in the compiler's header, as plain C."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("SWIFT_EXTERN "):
            continue
        line = re.sub(r"\b(SWIFT_EXTERN|SWIFT_NOEXCEPT|SWIFT_WARN_UNUSED_RESULT)\b", "", line)
        line = re.sub(r"\b_(Nonnull|Nullable|Null_unspecified)\b", "", line)
        line = " ".join(line.split())
        match = re.fullmatch(r"(.+?)\b(\w+)\s*\((.*)\)\s*;", line)
        if not match:
            raise HeaderError(f"the compiler emitted something this script cannot read: {line}")
        result, name, parameters = match.groups()
        found[name] = (c_type(result), [c_type(p) for p in parameters.split(",")])
    return found


def c_type(text: str) -> str:
    """`char const * * x` as `const char **x`, with macros that stand for attributes refused."""
    text = " ".join(text.split())
    if "SWIFT_" in text or "(" in text:
        raise HeaderError(f"not a plain C type: {text}")
    text = re.sub(r"^(\w+) const\b", r"const \1", text)
    return re.sub(r"\*\s+(?=[*\w])", "*", text)


def read_section(path: Path) -> Section:
    """Title, introduction and functions of one Swift file, in its order."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) < 2 or not lines[1].startswith("// Section: "):
        raise HeaderError(f"{path.name}: the second line must be `// Section: <title>`")
    title = lines[1].removeprefix("// Section: ").strip()
    introduction = []
    for line in lines[2:]:
        if not line.startswith("//"):
            break
        introduction.append(line.removeprefix("//").removeprefix(" ").rstrip())
    functions = []
    comment: list[str] = []
    for number, line in enumerate(lines):
        if line.startswith("///"):
            comment.append(line.removeprefix("///").removeprefix(" ").rstrip())
            continue
        if re.match(r"@c\b", line):
            declaration = " ".join(lines[number : number + 12])
            match = re.match(r"@c\s+public func (\w+)\s*\(([^)]*)\)", declaration)
            if not match:
                raise HeaderError(f"{path.name}:{number + 1}: @c without `public func` after it")
            name, parameters = match.groups()
            if not comment:
                raise HeaderError(f"{path.name}:{number + 1}: {name} has no comment")
            functions.append(Function(name, comment, re.findall(r"_ (\w+)\s*:", parameters)))
        comment = []
    return Section(title, introduction, functions)


def read_sections() -> list[Section]:
    sections = []
    known = {path.stem: path for path in sorted(SOURCES.glob("*.swift"))}
    with_functions = {
        s
        for s, p in known.items()
        if re.search(r"^@c\b", p.read_text(encoding="utf-8"), re.MULTILINE)
    }
    if extra := with_functions - set(SECTIONS):
        raise HeaderError(
            f"tools/header.py: SECTIONS does not say where {', '.join(sorted(extra))} belongs"
        )
    for stem in SECTIONS:
        if stem in with_functions:
            sections.append(read_section(known[stem]))
    return sections


def wrapped(comment: list[str], prefix: str) -> list[str]:
    """The comment with paragraphs that are too long broken anew."""
    result: list[str] = []
    paragraph: list[str] = []

    def flush() -> None:
        if all(len(prefix) + 1 + len(line) <= WIDTH for line in paragraph):
            result.extend(f"{prefix} {line}" for line in paragraph)
        else:
            item = re.match(r"\s*(?:[-*] )?", paragraph[0])
            hang = " " * len(item.group()) if item else ""
            text = " ".join(line.strip() for line in paragraph)
            first = paragraph[0][: len(paragraph[0]) - len(paragraph[0].lstrip())]
            result.extend(
                textwrap.wrap(
                    text,
                    WIDTH,
                    initial_indent=f"{prefix} {first}",
                    subsequent_indent=f"{prefix} {hang}",
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )
        paragraph.clear()

    for line in comment:
        if not line:
            flush()
            result.append(prefix)
            continue
        if re.match(r"\s*[-*] ", line) or line.startswith("Errors:"):
            flush()
        paragraph.append(line)
    flush()
    while result and result[-1] == prefix:
        result.pop()
    return result


def declaration(function: Function, emitted: tuple[str, list[str]]) -> str:
    result, types = emitted
    if types == ["void"]:
        types = []
    if len(types) != len(function.parameters):
        raise HeaderError(
            f"{function.name}: {len(function.parameters)} parameters in Swift, {len(types)} in C"
        )
    parameters = []
    for name, text in zip(function.parameters, types, strict=True):
        # The compiler appends _ to names that mean something to it (out_); C has no such quarrel.
        match = re.fullmatch(r"(.*?)(\w+?)_?", text)
        if not match or match.group(2).rstrip("_") != name.rstrip("_"):
            raise HeaderError(f"{function.name}: parameter {name} in Swift is `{text}` in C")
        parameters.append(match.group(1) + name)
    head = f"{result}{'' if result.endswith('*') else ' '}{function.name}("
    line = head + (", ".join(parameters) or "void") + ");"
    if len(line) <= WIDTH:
        return line
    # Broken between parameters only.
    line = head + ", ".join(p.replace(" ", "\0") for p in parameters) + ");"
    lines = textwrap.wrap(
        line,
        WIDTH,
        subsequent_indent=" " * 4,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines).replace("\0", " ")


def banner(section: Section) -> list[str]:
    rule = "// " + "-" * (WIDTH - 3)
    lines = [rule, f"// {section.title}", rule]
    if section.introduction:
        lines += wrapped(section.introduction, "//")
    return lines


def generate(build: Path) -> tuple[str, list[str]]:
    """The text of suture.h and the names it declares."""
    emitted_header = build / "SutureABI.build" / "include" / "SutureABI-Swift.h"
    if not emitted_header.is_file():
        raise HeaderError(f"{emitted_header} is missing; build the library first (make lib)")
    emitted = emitted_prototypes(emitted_header.read_text(encoding="utf-8"))
    blocks = []
    names = []
    for section in read_sections():
        blocks.append("\n".join(banner(section)))
        for function in section.functions:
            if function.name not in emitted:
                raise HeaderError(
                    f"{function.name} is in the sources, not in the build: build again (make lib)"
                )
            if not function.name.startswith("suture_"):
                raise HeaderError(f"{function.name} does not begin with suture_")
            names.append(function.name)
            comment = wrapped(function.comment, "///")
            blocks.append("\n".join([*comment, declaration(function, emitted[function.name])]))
    if missing := set(emitted) - set(names):
        raise HeaderError(
            f"emitted by the compiler, not found in the sources: {', '.join(sorted(missing))}"
        )
    if len(names) != len(set(names)):
        raise HeaderError("a function is declared twice")
    text = (ROOT / "tools" / "suture.h.in").read_text(encoding="utf-8")
    text = text.replace(
        "@VERSION@", one_match(ROOT / "Sources/Suture/Version.swift", r'sutureVersion = "([^"]+)"')
    )
    abi = one_match(SOURCES / "Library.swift", r"func suture_abi_version\(\) -> Int32 \{ (\d+) \}")
    text = text.replace("@ABI_VERSION@", abi)
    return text.replace("@FUNCTIONS@", "\n\n".join(blocks)), names


def one_match(path: Path, pattern: str) -> str:
    match = re.search(pattern, path.read_text(encoding="utf-8"))
    if not match:
        raise HeaderError(f"{path.relative_to(ROOT)}: nothing matches {pattern}")
    return match.group(1)


def exported(library: Path) -> set[str]:
    """Names of code and global data that a shared library exports."""
    output = subprocess.run(
        ["nm", "-D", "--defined-only", str(library)], check=True, capture_output=True, text=True
    ).stdout
    # Lower-case types are local symbols that the linker leaves behind: nobody can link to them.
    return {
        name for _, kind, name in (line.split() for line in output.splitlines()) if kind.isupper()
    }


def check(build: Path, text: str, names: list[str]) -> list[str]:
    problems = []
    present = HEADER.read_text(encoding="utf-8") if HEADER.is_file() else ""
    if present != text:
        diff = difflib.unified_diff(
            present.splitlines(),
            text.splitlines(),
            "Include/suture.h",
            "as generated",
            lineterm="",
            n=1,
        )
        problems.append("Include/suture.h is not what `make header` writes:\n" + "\n".join(diff))
    symbols = exported(build / "libsuture.so")
    if missing := sorted(set(names) - symbols):
        problems.append(f"in the header, not exported by libsuture.so: {', '.join(missing)}")
    if extra := sorted(symbols - set(names)):
        problems.append(f"exported by libsuture.so, not in the header: {', '.join(extra)}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("build", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    try:
        text, names = generate(arguments.build)
    except HeaderError as error:
        print(f"tools/header.py: {error}", file=sys.stderr)
        return 1
    if arguments.check:
        problems = check(arguments.build, text, names)
        for problem in problems:
            print(f"tools/header.py: {problem}", file=sys.stderr)
        return 1 if problems else 0
    if not HEADER.is_file() or HEADER.read_text(encoding="utf-8") != text:
        HEADER.write_text(text, encoding="utf-8")
        print(f"Include/suture.h: {len(names)} functions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
