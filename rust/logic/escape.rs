// SPDX-License-Identifier: GPL-2.0

//! Paths as aufs shows them to programs that split text at blanks.

#![forbid(unsafe_code)]

/// Writes `path`; control characters, blanks and backslashes become `\ooo`.
pub(crate) fn write(path: &[u8], out: &mut dyn FnMut(&[u8])) {
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

/// Tells whether a byte is shown as it is.
fn plain(byte: u8) -> bool {
    !matches!(byte, 0x01..=0x20 | b'\\' | 0x7f)
}
