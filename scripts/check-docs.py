#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
#
# usage: check-docs.py
#
# Checks of the documentation what can be checked without reading it: references lead to
# something, tables are tables, files and tests that pages name are there, and
# architecture.rst names each file of the module.  Examples are run by the guest tests
# documents::*.
import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
PAGES = sorted((TOP / "Documentation").glob("*/*.rst"))
REFERENCE = ("ruaufs-reference.rst", "ruaufs-interfaces.rst")
errors = 0


def error(page, line, text):
    global errors
    errors += 1
    print(f"error: {page.relative_to(TOP)}:{line}: {text}")


def titles(lines):
    """Returns the section titles of a page."""
    pairs = zip(lines, lines[1:])
    return {a for a, b in pairs if a and b and len(b) == len(a) and set(b) in ({"="}, {"-"})}


def check_references(page, lines):
    text = "\n".join(lines)
    own = titles(lines)
    links = dict(re.findall(r"(?m)^\.\. _([\w.-]+): (\S+)$", text))
    for number, line in enumerate(lines, 1):
        # A title may be cut by the end of a line: join what follows.
        joined = " ".join(part.strip() for part in lines[number - 1 : number + 1])
        for title in re.findall(r"`([A-Z][^`]*)`_", joined):
            if title not in own:
                error(page, number, f"there is no section {title!r}")
        for name, title in re.findall(r"([\w-]+\.rst)_,\s+\*([^*]+)\*", joined):
            target = page.parent / links.get(name, name)
            if target.exists() and title not in titles(target.read_text().split("\n")):
                error(page, number, f"{name} has no section {title!r}")
        for name in re.findall(r"(?<![\w`-])([\w-]+\.rst)_\b", line):
            if name not in links:
                error(page, number, f"{name}_ has no target")
    for name, target in links.items():
        if not (page.parent / target).exists():
            error(page, 1, f"link {name}: there is no {target}")
    if page.name in ("ruaufs-options.rst", "ruaufs-messages.rst"):
        known = set()
        for name in REFERENCE:
            known |= titles((page.parent / name).read_text().split("\n"))
        for number, line in enumerate(lines, 1):
            for title in re.findall(r"see \*([^*]+)\*", line):
                if title not in known:
                    error(page, number, f"no page has a section {title!r}")


def check_tables(page, lines):
    """Each row of a list-table has as many cells as the table has columns."""
    columns = cells = row = None
    for number, line in enumerate([*lines, "end"], 1):
        if line.startswith("   * - ") or (line and not line.startswith(" ")):
            if row and cells != columns:
                error(page, row, f"{cells} cells in a table of {columns} columns")
            row, cells = (number, 1) if line.startswith("   * - ") else (None, None)
        elif row and re.match(r"     -( |$)", line):
            cells += 1
        if match := re.match(r"   :widths: (.*)", line):
            columns = len(match[1].split())


def check_names(page, lines):
    """Files and guest tests that a page names are there."""
    tests = TOP / "tests/guest/src/tests"
    for number, line in enumerate(lines, 1):
        for name in re.findall(r"``((?:scripts|tests|tools|Documentation)/[\w./-]+)``", line):
            if name.startswith("Documentation/") and "ruaufs" not in name:
                continue  # The kernel's.
            if not (TOP / name).exists() and not (TOP / f"{name}.rs").exists():
                error(page, number, f"there is no {name}")
        for module, name in re.findall(r"``([a-z_]+)::([a-z]\w*|\*)", line):
            found = [*tests.rglob(f"{module}.rs")]
            if page.name == "security.rst" and not found:
                error(page, number, f"there are no guest tests {module}")
            where = [p.read_text() for f in found for p in [f, *f.with_suffix("").glob("*.rs")]]
            if where and name != "*" and not any(re.search(rf"\b{name}\b", t) for t in where):
                error(page, number, f"there is no guest test {module}::{name}")
        if len(line) > 100:
            error(page, number, "more than 100 characters")


def check_files():
    """architecture.rst names each source file, and no other."""
    page = TOP / "Documentation/ruaufs/architecture.rst"
    rust = TOP / "rust"
    named = {}
    folder = None
    for number, line in enumerate(page.read_text().split("\n"), 1):
        if match := re.match(r"rust/([\w/]*) +what it (?:does|decides)", line):
            folder = match[1]
        elif folder is not None and re.match(r"^[A-Z]", line):
            folder = None
        elif folder is not None:
            for name in re.findall(r"``([\w/]+\.rs)``", line):
                places = (rust / folder, (rust / folder).parent, rust)
                paths = [place / name for place in places]
                named[next((p for p in paths if p.exists()), paths[0])] = number
    for path, number in named.items():
        if not path.exists():
            error(page, number, f"there is no {path.relative_to(TOP)}")
    for path in sorted(rust.rglob("*.rs")):
        if path not in named and "generated" not in path.name:
            error(page, 1, f"does not name {path.relative_to(TOP)}")


for page in PAGES:
    lines = page.read_text().split("\n")
    check_references(page, lines)
    check_tables(page, lines)
    check_names(page, lines)
check_files()
sys.exit(errors != 0)
