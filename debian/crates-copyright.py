#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: crates-copyright.py VENDOR

Writes the paragraphs of debian/copyright for the crates in VENDOR: what each manifest says
of authors and licence, the copyright lines of its licence files, and the licences' texts."""

import pathlib
import re
import sys
import tomllib

TEXTS = {
    "Apache-2.0": " On Debian systems the text of this license is in\n"
    " /usr/share/common-licenses/Apache-2.0.",
}


def main(vendor):
    licences = {}
    for crate in sorted(vendor.iterdir()):
        package = tomllib.loads((crate / "Cargo.toml").read_text())["package"]
        licence = package.get("license") or sys.exit(f"{crate}: its manifest names no licence")
        files = sorted(
            f for f in crate.iterdir() if re.match(r"(?i)(un)?licen[cs]e|copying|copyright", f.name)
            and f.is_file()
        )
        holders = []
        for file in files:
            for line in file.read_text(errors="replace").splitlines():
                line = line.strip(" #*")
                if re.match(r"(?i)copyright (\(c\)|©|\d{4})", line) and "[yyyy]" not in line:
                    holders.append(re.sub(r"(?i)^copyright (\(c\)|©)? ?", "", line))
        holders = list(dict.fromkeys(holders)) or package.get("authors", []) or ["its authors"]
        # The format has a comma where SPDX has parentheses.
        short = re.sub(r"\((.*?)\) AND", r"\1, and", licence).replace("/", " or ")
        short = short.replace(" OR ", " or ").replace(" WITH ", " with ")
        print(f"\nFiles: tools/vendor/{crate.name}/*")
        print("Copyright: " + "\n           ".join(holders))
        print(f"License: {short}")
        for part in re.split(r"[()]|\s+(?:OR|AND)\s+|/", licence):
            if part:
                licences.setdefault(part.strip(), []).extend(files)
        licences.setdefault(short, [])
    for name in sorted(licences):
        print(f"\nLicense: {name.replace(' WITH ', ' with ')}")
        print(text(name, licences[name]))


def text(name, files):
    """The text of a licence: Debian's copy, or that of a crate that has it."""
    if " or " in name or " and " in name:
        return " Any of, or all of, the licences named here, whose texts follow or precede."
    if name.startswith("Apache-2.0"):
        return TEXTS["Apache-2.0"]
    wanted = name.split("-")[0].lower()
    for file in files:
        if wanted in file.name.lower():
            return indented(file.read_text(errors="replace"))
    for file in files:
        body = file.read_text(errors="replace")
        if wanted == "mit" and "Permission is hereby granted" in body:
            return indented(body)
    return f" The licence {name}, as its SPDX identifier says."


def indented(body):
    lines = (line.rstrip() for line in body.strip().splitlines())
    return "\n".join(" " + (line or ".") for line in lines)


main(pathlib.Path(sys.argv[1]))
