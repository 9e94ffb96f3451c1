// SPDX-License-Identifier: GPL-2.0

//! The documentation lists the options of the table.

use std::{
    fs,
    path::{Path, PathBuf},
};

use logic::options::{
    manual::{Group, Row},
    parse, Bad, Opt, Settings, ROWS,
};

use super::written;

/// The lines around the list in the guide.
const BEGIN: &str = ".. The list of options begins here.\n";
const END: &str = ".. The list of options ends here.\n";

/// All files of the documentation.
fn documentation() -> Vec<(PathBuf, String)> {
    fn add(dir: &Path, files: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(&path, files);
            } else if path.extension().is_some_and(|end| end == "rst") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    let mut files = Vec::new();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    add(&here.join("../../Documentation"), &mut files);
    files
}

/// Breaks a paragraph into lines.
fn wrapped(text: &str, indent: &str, out: &mut String) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent.len() + line.len() + 1 + word.len() > 92 {
            *out += &format!("{indent}{line}\n");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    *out += &format!("{indent}{line}\n");
}

/// A word with its value.
fn code((word, syntax): (&str, &str)) -> String {
    match syntax {
        "" => format!("``{word}``"),
        syntax => format!("``{word}={syntax}``"),
    }
}

/// An option in the guide.
fn item(row: &Row, out: &mut String) {
    let terms = row.words.iter().map(|word| (*word, row.syntax)).take(1);
    let off = row.off.iter().map(|word| (*word, "")).take(1);
    let terms: Vec<_> = terms.chain(off).map(code).collect();
    *out += &format!("{}\n", terms.join(", "));
    let mut body = row.help.trim().replace('`', "``");
    let default = written(|out| row.write_default(out));
    if !default.is_empty() {
        body += &format!(" Default: ``{default}``.");
    }
    let mark = if row.syntax.is_empty() { "" } else { "=" };
    let others = row.words.iter().skip(1).map(|w| format!("``{w}{mark}``"));
    let others = others.chain(row.off.iter().skip(1).map(|w| format!("``{w}``")));
    let others: Vec<_> = others.collect();
    if !others.is_empty() {
        body += &format!(" Also {}.", others.join(", "));
    }
    wrapped(&body, "    ", out);
}

/// The list. Titles that are those of sections are in italics, as all references are.
fn list(documentation: &[(PathBuf, String)]) -> String {
    let mut out = String::new();
    for group in Group::ALL {
        let title = group.title();
        let heading = ["=", "-", "~"].map(|c| format!("\n{title}\n{}\n", c.repeat(title.len())));
        let is_section = |(_, text): &(_, String)| heading.iter().any(|h| text.contains(h));
        let quote = if documentation.iter().any(is_section) {
            "*"
        } else {
            "**"
        };
        out += &format!("\n{quote}{title}{quote}\n\n");
        let rows = ROWS.iter().filter(|row| row.group == group);
        rows.for_each(|row| item(row, &mut out));
    }
    out + "\n"
}

#[test]
fn the_guide_lists_all_options() {
    let files = documentation();
    let with_list: Vec<_> = files
        .iter()
        .filter(|(_, text)| text.contains(BEGIN))
        .collect();
    let [(path, text)] = with_list[..] else {
        panic!("one file of the documentation has the line {BEGIN:?}");
    };
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (old, after) = rest.split_once(END).unwrap();
    let new = list(&files);
    if old != new && std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(path, [before, BEGIN, &new, END, after].concat()).unwrap();
        return;
    }
    assert!(
        old == new,
        "{}: the list is not that of the table; `make host-test WRITE_DOCS=1` writes it",
        path.display()
    );
}

#[test]
fn the_comparison_with_aufs_has_all_options() {
    let files = documentation();
    let (_, text) = files
        .iter()
        .find(|(path, _)| path.ends_with("compat.rst"))
        .unwrap();
    let missing: Vec<_> = ROWS
        .iter()
        .flat_map(Row::spellings)
        .map(|(word, _)| word)
        .filter(|word| {
            !["``", "="]
                .iter()
                .any(|end| text.contains(&format!("``{word}{end}")))
        })
        .collect();
    assert_eq!(missing, [""; 0]);
}

/// What the table says of an option is what the parser does.
#[test]
fn rows_are_what_is_parsed() {
    for row in ROWS {
        for (word, syntax) in row.spellings() {
            let parsed = parse(word.as_bytes(), None);
            match syntax {
                "" => assert!(parsed.is_ok(), "{word}"),
                "..." | "ID" => {}
                _ => assert!(!matches!(parsed, Err(Bad::Unknown)), "{word}"),
            }
            // Words of a choice; parameters are in capitals.
            let words = syntax.split('|').filter(|_| syntax.contains('|'));
            for value in words {
                let value = value.replace("[:SEC]", "").replace("BYTES", "1");
                assert!(
                    parse(word.as_bytes(), Some(value.as_bytes())).is_ok(),
                    "{word}={value}"
                );
            }
        }
        // The default is one, and is not shown.
        let default = written(|out| row.write_default(out));
        if !default.is_empty() {
            let (key, value) = match default.split_once('=') {
                Some((key, value)) => (key, Some(value.as_bytes())),
                None => (&default[..], None),
            };
            let mut settings = Settings::default();
            assert!(
                settings.apply(&parse(key.as_bytes(), value).unwrap()),
                "{default}"
            );
            assert_eq!(settings, Settings::default(), "{default}");
        }
        assert!(row.help.ends_with('.'), "{}", row.help);
    }
}

#[test]
fn no_word_is_there_twice() {
    let mut words: Vec<_> = ROWS
        .iter()
        .flat_map(Row::spellings)
        .map(|(word, _)| word)
        .collect();
    words.sort_unstable();
    let all = words.len();
    words.dedup();
    // `trunc_xino` and `trunc_xino=BRANCH`.
    assert_eq!(words.len(), all - 1);
    assert!(matches!(parse(b"trunc_xino", None), Ok(Opt::Flag(..))));
}
