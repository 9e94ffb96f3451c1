// SPDX-License-Identifier: GPL-2.0

//! Paths as aufs shows them to programs that split text at blanks.

#![forbid(unsafe_code)]

/// Writes `path`; control characters, blanks and backslashes become `\ooo`.
pub fn write(path: &[u8], out: &mut dyn FnMut(&[u8])) {
    for part in path.chunk_by(|&a, &b| plain(a) && plain(b)) {
        match part {
            &[byte] if !plain(byte) => {
                // CAST, NO-OVERFLOW: A digit is at most 7.
                out(&[
                    b'\\',
                    b'0' + (byte >> 6),
                    b'0' + ((byte >> 3) & 7),
                    b'0' + (byte & 7),
                ]);
            }
            part => out(part),
        }
    }
}

/// Reads what [`write`] and the mount table write: `\ooo` becomes the byte it stands for, all else
/// stays.
#[cfg(not(CONFIG_RUST))]
pub fn read(text: &[u8], out: &mut dyn FnMut(u8)) {
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', left @ ..]) =
            (first, tail)
        {
            // NO-OVERFLOW: At most 0o377.
            out(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
            rest = left;
        } else {
            out(*first);
            rest = tail;
        }
    }
}

/// Tells whether a byte is shown as it is.
fn plain(byte: u8) -> bool {
    !matches!(byte, 0x01..=0x20 | b'\\' | 0x7f)
}
