// SPDX-License-Identifier: GPL-2.0

//! Numbers as text.

#![forbid(unsafe_code)]

/// Room for the decimal digits of any `u64`.
pub type Digits = [u8; 20];

/// Writes `n` in decimal at the end of `buf` and returns the digits.
#[inline(never)]
pub fn decimal(mut n: u64, buf: &mut Digits) -> &[u8] {
    let mut start = buf.len();
    for (i, slot) in buf.iter_mut().enumerate().rev() {
        // CAST: The remainder is below 10.
        *slot = b'0' + (n % 10) as u8;
        start = i;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    buf.get(start..).unwrap_or(&[])
}

/// Reads a decimal number in the form which [`decimal`] writes: no sign, no leading zero.
pub fn parse_canonical(text: &[u8]) -> Option<u64> {
    if text.len() > 1 && text.first() == Some(&b'0') {
        return None;
    }
    parse_radix(text, 10)
}

/// Reads a number as a mount option gives it.
///
/// As the kernel's `kstrtoll()` with base 0: an optional sign, then `0x` and hexadecimal digits,
/// `0` and octal digits, or decimal digits. `None` if it is anything else or does not fit.
#[inline(never)]
pub fn parse_signed(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-") {
        Some(rest) => 0i64.checked_sub_unsigned(parse_magnitude(rest)?),
        None => i64::try_from(parse_unsigned(text)?).ok(),
    }
}

/// Reads a number as [`parse_signed`] does, without a minus sign.
pub fn parse_unsigned(text: &[u8]) -> Option<u64> {
    parse_magnitude(text.strip_prefix(b"+").unwrap_or(text))
}

/// Reads hexadecimal digits alone.
pub fn parse_hex(text: &[u8]) -> Option<u64> {
    parse_radix(text, 16)
}

/// Reads digits after the sign.
fn parse_magnitude(text: &[u8]) -> Option<u64> {
    match text {
        [b'0', b'x' | b'X', digits @ ..] => parse_radix(digits, 16),
        [b'0', digits @ ..] if !digits.is_empty() => parse_radix(digits, 8),
        _ => parse_radix(text, 10),
    }
}

/// Reads at least one digit and nothing but digits.
fn parse_radix(digits: &[u8], radix: u32) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, &c| {
        let digit = char::from(c).to_digit(radix)?;
        n.checked_mul(u64::from(radix))?
            .checked_add(u64::from(digit))
    })
}
