// SPDX-License-Identifier: GPL-2.0

//! A keyed hash of names, a table of numbers that uses it, and a code that authenticates.
//!
//! Whoever may create files in a branch chooses the names that are hashed. With a simple hash he
//! could make all of them collide and a merge take hours of kernel time; SipHash-1-3 under a key
//! that he does not know is made against that, and costs little beside reading the directory.

#![forbid(unsafe_code)]

use super::env::{
    KVVec,
    Result,
    GFP_KERNEL_ACCOUNT, //
};

/// The secret of one table.
#[derive(Clone, Copy, Debug)]
pub struct Key(pub u64, pub u64);

/// The state of the hash.
struct Sip {
    /// First word.
    a: u64,
    /// Second word.
    b: u64,
    /// Third word.
    c: u64,
    /// Fourth word.
    d: u64,
}

impl Sip {
    /// Mixes the state once.
    #[inline(always)]
    fn round(&mut self) {
        self.a = self.a.wrapping_add(self.b);
        self.c = self.c.wrapping_add(self.d);
        self.b = self.b.rotate_left(13) ^ self.a;
        self.d = self.d.rotate_left(16) ^ self.c;
        self.a = self.a.rotate_left(32);
        self.c = self.c.wrapping_add(self.b);
        self.a = self.a.wrapping_add(self.d);
        self.b = self.b.rotate_left(17) ^ self.c;
        self.d = self.d.rotate_left(21) ^ self.a;
        self.c = self.c.rotate_left(32);
    }

    /// Takes in one word, with `C` rounds.
    #[inline(always)]
    fn word<const C: u32>(&mut self, word: u64) {
        self.d ^= word;
        for _ in 0..C {
            self.round();
        }
        self.a ^= word;
    }
}

impl Key {
    /// Hashes `bytes` by SipHash-1-3.
    #[inline(never)]
    pub fn hash64(self, bytes: &[u8]) -> u64 {
        self.sip::<1, 3>(bytes)
    }

    /// The code that who does not know the key cannot make for `bytes`: SipHash-2-4.
    pub fn authenticate(self, bytes: &[u8]) -> u64 {
        self.sip::<2, 4>(bytes)
    }

    /// SipHash with `C` rounds for each word and `D` at the end.
    #[inline(always)]
    fn sip<const C: u32, const D: u32>(self, bytes: &[u8]) -> u64 {
        let mut sip = Sip {
            a: self.0 ^ 0x736f_6d65_7073_6575,
            b: self.1 ^ 0x646f_7261_6e64_6f6d,
            c: self.0 ^ 0x6c79_6765_6e65_7261,
            d: self.1 ^ 0x7465_6462_7974_6573,
        };
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            sip.word::<C>(little_endian(word));
        }
        // CAST: The last word carries the length modulo 256.
        sip.word::<C>(little_endian(words.remainder()) | ((bytes.len() as u64) << 56));
        sip.c ^= 0xff;
        for _ in 0..D {
            sip.round();
        }
        sip.a ^ sip.b ^ sip.c ^ sip.d
    }

    /// Hashes `bytes` to 32 bits.
    pub fn hash(self, bytes: &[u8]) -> u32 {
        // CAST: All bits are equally good.
        self.hash64(bytes) as u32
    }
}

/// A hash table of numbers: open addressing, linear probing, at least a quarter of it free.
pub struct Table {
    /// Number + 1, or 0 for a free place; the length is a power of two.
    places: KVVec<u32>,
}

impl Table {
    /// Makes a table for `count` numbers.
    pub fn new(count: usize) -> Result<Self> {
        // NO-OVERFLOW: Callers limit `count` to far less.
        let len = (count + count / 3 + 1).next_power_of_two();
        Ok(Table {
            places: KVVec::from_elem(0, len, GFP_KERNEL_ACCOUNT)?,
        })
    }

    /// Where the table is in memory, which users do not know: a word for a [`Key`].
    pub(super) fn secret(&self) -> u64 {
        self.places.as_slice().as_ptr().addr() as u64
    }

    /// Finds the number that `is_it`, or else the place where it belongs.
    pub fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Result<u32, usize> {
        match self.find_place(hash, is_it) {
            (_, Some(n)) => Ok(n),
            (place, None) => Err(place),
        }
    }

    /// Finds the number that `is_it`, and the place where it is or belongs.
    pub fn find_place(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> (usize, Option<u32>) {
        let mask = self.places.len().wrapping_sub(1);
        // CAST: `usize` has at least 32 bits.
        let mut place = hash as usize & mask;
        loop {
            match self.places.get(place).and_then(|n| n.checked_sub(1)) {
                Some(n) if is_it(n) => return (place, Some(n)),
                Some(_) => place = place.wrapping_add(1) & mask,
                None => return (place, None),
            }
        }
    }

    /// Puts `n` into a place that [`Self::find`] or [`Self::find_place`] returned.
    pub fn set(&mut self, place: usize, n: u32) {
        if let Some(slot) = self.places.get_mut(place) {
            *slot = n.wrapping_add(1);
        }
    }
}

/// Reads at most eight bytes as a number.
#[inline(always)]
fn little_endian(bytes: &[u8]) -> u64 {
    match <[u8; 8]>::try_from(bytes) {
        Ok(word) => u64::from_le_bytes(word),
        Err(_) => bytes
            .iter()
            .rev()
            .fold(0, |word, &byte| (word << 8) | u64::from(byte)),
    }
}
