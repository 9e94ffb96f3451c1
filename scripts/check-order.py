#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
#
# usage: check-order.py [--arrows]
#
# Imports point one way between the folders of a layer: a file names what is in its own folder,
# or in one that stands before it in ORDER.  Inside of a folder files may name each other in a
# circle only where CIRCLES says why.  What ONLY lists has one file that names it.  The head of a
# folder has documentation and no code.
# --arrows lists who names whom, instead.
import pathlib
import re
import sys

RUST = pathlib.Path(__file__).resolve().parent.parent / "rust"

# The folders and files of a layer, from the bottom.
ORDER = {
    "fs": "base types objects access operations callbacks registration",
    "union": "types branches objects views state plink names copyup change files user mount"
    " callbacks",
}
# (file, file that it names although that one stands higher): why.
UPWARDS = {}
# Files of one folder that name each other: why.
CIRCLES = {
    (
        "fs/objects/dentry.rs",
        "fs/objects/inode.rs",
        "fs/objects/inode_cache.rs",
        "fs/objects/ours.rs",
        "fs/objects/path.rs",
        "fs/objects/sb.rs",
        "fs/objects/section.rs",
        "fs/objects/stack.rs",
        "fs/objects/walk.rs",
    ): "so do the structures of C: a dentry has an inode, an inode a super block, that a dentry",
}
# Folder or file: (the only file of fs and union that may name it, why).
ONLY = {
    "logic/marks": ("union/branches/whiteout.rs", "it is the face of all that hides names"),
}
# (layer or folder, folder that nothing in it may name): why.
NEVER = {
    ("union", "fs/callbacks"): "the tables are for the VFS; the union implements fs/operations",
}
errors = 0


def error(text):
    global errors
    errors += 1
    print(f"error: {text}")


def code_of(path):
    """Returns the text without comments and strings."""
    text = re.sub(r'b?"(?:\\.|[^"\\])*"', '""', path.read_text(), flags=re.S)
    return re.sub(r"//[^\n]*", "", text)


def leaves(tree, before=()):
    """Yields the paths of the tree of a use declaration."""
    depth, start = 0, 0
    for at, char in enumerate(f"{tree},"):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            item = tree[start:at].strip()
            start = at + 1
            head, brace, rest = item.partition("{")
            words = [word for word in head.split(" as ")[0].strip().split("::") if word]
            if brace:
                yield from leaves(rest.rpartition("}")[0], (*before, *words))
            elif item:
                yield (*before, *words)


def file_of(module, words):
    """Returns the file that the path leads into, or None if that is no file of a layer."""
    words = [word for word in words if word != "self"]
    if words and words[0] == "crate":
        words = words[1:]
    elif words and words[0] == "super":
        base = list(module)
        while words and words[0] == "super":
            base, words = base[:-1], words[1:]
        words = base + words
    else:
        return None
    for end in range(len(words), 0, -1):
        path = RUST.joinpath(*words[:end]).with_suffix(".rs")
        if path.exists():
            return path.relative_to(RUST).as_posix()
    return None


def named_by(path):
    """Returns the files of the layers that a file names."""
    module = path.relative_to(RUST).with_suffix("").parts
    code = code_of(path)
    found = set()
    for tree in re.findall(r"\buse\s+([^;]+);", code):
        found |= {file_of(module, words) for words in leaves(tree)}
    code = re.sub(r"\buse\s+[^;]+;", "", code)
    for words in re.findall(r"(?<![\w:$])(?:crate|super)(?:::\w+)+", code):
        found.add(file_of(module, words.split("::")))
    return found - {None, path.relative_to(RUST).as_posix()}


def folder(name):
    """Returns layer and folder of a file; a file directly in a layer is a folder of its own."""
    layer, _, rest = name.partition("/")
    return layer, rest.partition("/")[0].removesuffix(".rs")


def circles(arrows):
    """Returns the sets of files that reach each other."""
    reach = {name: set(after) for name, after in arrows.items()}
    changed = True
    while changed:
        changed = False
        for after in reach.values():
            more = set().union(*(reach.get(name, ()) for name in after)) - after
            after |= more
            changed = changed or bool(more)
    found = {frozenset(b for b in reach if b in reach[a] and a in reach[b]) for a in reach}
    return sorted(sorted(circle) for circle in found if len(circle) > 1)


def check_order(arrows):
    used = set()
    for name, others in sorted(arrows.items()):
        layer, place = folder(name)
        order = ORDER[layer].split()
        if place not in order:
            error(f"rust/{name}: ORDER has no place for it")
            continue
        for other in sorted(others):
            for part, (only, why) in ONLY.items():
                if other.startswith((f"{part}/", f"{part}.rs")) and name != only:
                    error(f"rust/{name} names rust/{other}: only rust/{only} may, {why}")
            for (a, b), why in NEVER.items():
                if name.startswith(f"{a}/") and other.startswith(f"{b}/"):
                    error(f"rust/{name} names rust/{other}: {why}")
            other_layer, other_place = folder(other)
            if layer != other_layer or other_place not in order:
                continue
            if order.index(other_place) <= order.index(place):
                continue
            if (name, other) in UPWARDS:
                used.add((name, other))
            else:
                error(f"rust/{name} names rust/{other}, which stands above it")
    for name, other in set(UPWARDS) - used:
        error(f"rust/{name} does not name rust/{other}: UPWARDS must not say so")


def check_circles(arrows):
    used = set()
    inside = {a: {b for b in bs if folder(a) == folder(b)} for a, bs in arrows.items()}
    for circle in circles(inside):
        reasons = [known for known in CIRCLES if set(circle) <= set(known)]
        used |= set(reasons)
        if not reasons:
            error(f"files name each other: {' '.join(f'rust/{name}' for name in circle)}")
    for known in set(CIRCLES) - used:
        error(f"no circle is in {' '.join(known)}: CIRCLES must not say so")


def check_heads(files):
    """A folder has a head, FOLDER.rs beside it, which says what is in it."""
    for place in sorted({path.parent for path in files}):
        head = place.with_suffix(".rs")
        name = head.relative_to(RUST.parent)
        if not head.exists():
            error(f"{name}: there is no such head")
            continue
        if not re.search(r"^//! ", head.read_text(), re.M):
            error(f"{name}: a head says what is in the folder")
        code = re.sub(r"#!\[[^\]]*\]|pub\(crate\) mod \w+;", "", code_of(head))
        if code.strip():
            error(f"{name}: a head has no code: {' '.join(code.split())[:60]}")


files = [path for layer in ORDER for path in sorted((RUST / layer).rglob("*.rs"))]
arrows = {path.relative_to(RUST).as_posix(): named_by(path) for path in files}
if "--arrows" in sys.argv:
    for name, others in arrows.items():
        print(f"{name}: {' '.join(sorted(others))}")
    sys.exit()
check_heads(files)
check_order(arrows)
check_circles(arrows)
sys.exit(errors != 0)
