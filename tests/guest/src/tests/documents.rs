// SPDX-License-Identifier: GPL-2.0

//! The examples of the documentation: what a reader pastes prints what the page says.
//!
//! A block of commands is marked `sh`, the output that is shown for it `text`. The blocks of a page
//! run one after the other, in one shell, in a mount namespace with an empty `/tmp`. `...` in an
//! output stands for anything within a line.

use std::process::Command;

use crate::harness::prelude::*;

cases! {
    ONCE: readme, primer, tools;
}

/// Printed between the outputs of two blocks.
const END: &str = "-- end of the block --";

/// Commands, and what they print.
struct Block {
    commands: String,
    output: String,
}

/// Finds a block after a mark: the block, and the text that follows.
type Part = for<'a> fn(&'a str, &str) -> Option<(String, &'a str)>;

/// The lines of the literal block after `mark`, where each has the indent of the first one, and
/// what follows.
fn indented<'a>(text: &'a str, mark: &str) -> Option<(String, &'a str)> {
    let (_, rest) = text.split_once(mark)?;
    let length = rest
        .split_inclusive('\n')
        .take_while(|line| line.trim().is_empty() || line.starts_with("  "))
        .map(str::len)
        .sum();
    let (block, rest) = rest.split_at(length);
    let lines = block.trim_matches('\n').lines();
    let lines: Vec<_> = lines.map(|l| l.strip_prefix("  ").unwrap_or(l)).collect();
    Some((lines.join("\n") + "\n", rest))
}

/// The lines of the fenced block after `mark`, and what follows.
fn fenced<'a>(text: &'a str, mark: &str) -> Option<(String, &'a str)> {
    let (_, rest) = text.split_once(mark)?;
    let (block, rest) = rest.split_once("```")?;
    Some((block.to_owned(), rest))
}

/// The blocks of a page. Its form follows from the marks.
fn blocks(mut page: &str) -> Vec<Block> {
    let (part, sh, output): (Part, _, _) = match page.contains("```sh\n") {
        true => (fenced, "```sh\n", "```text\n"),
        false => (indented, ".. code-block:: sh\n", ".. code-block:: text\n"),
    };
    let mut all = Vec::new();
    while let Some((commands, rest)) = part(page, sh) {
        // The output is between this block of commands and the next one.
        let until = rest.find(sh).unwrap_or(rest.len());
        let output = part(&rest[..until], output).map_or(String::new(), |(output, _)| output);
        all.push(Block { commands, output });
        page = rest;
    }
    all
}

/// Whether a line is as the page says.
fn agrees(line: &str, said: &str) -> bool {
    let mut parts = said.split("...");
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) if !part.is_empty() => rest = after,
            _ => return part.is_empty(),
        }
    }
    rest.is_empty()
}

/// Runs the blocks of a page.
fn run(page: &str) -> Result<()> {
    let blocks = blocks(page);
    assert!(!blocks.is_empty(), "the page has no block of commands");
    let mut script = String::from("exec 2>&1 </dev/null\nmount -t tmpfs -o mode=1777 none /tmp\n");
    for block in &blocks {
        script += &format!("{}echo '{END}'\n", block.commands);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("unshare")
        .args(["--mount", "bash", "-c", &script])
        .env("PATH", format!("/ruaufs:{path}"))
        .env("LC_ALL", "C.UTF-8")
        .output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let printed: Vec<_> = printed.split(&format!("{END}\n")).collect();
    assert_eq!(printed.len(), blocks.len() + 1, "{printed:?}");
    for (block, printed) in blocks.iter().zip(printed) {
        let same = printed.lines().count() == block.output.lines().count()
            && printed
                .lines()
                .zip(block.output.lines())
                .all(|(line, said)| agrees(line.trim_end(), said));
        assert!(
            same,
            "after\n{}\nthe page says\n{}\nand this was printed\n{printed}",
            block.commands, block.output
        );
    }
    Ok(())
}

fn readme(_: &Ctx) -> Result<()> {
    run(include_str!("../../../../README.md"))
}

fn primer(_: &Ctx) -> Result<()> {
    run(include_str!(
        "../../../../Documentation/filesystems/ruaufs.rst"
    ))
}

fn tools(_: &Ctx) -> Result<()> {
    run(include_str!("../../../../Documentation/ruaufs/tools.rst"))
}
