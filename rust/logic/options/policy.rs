// SPDX-License-Identifier: GPL-2.0

//! Policies: which branch gets a new entry, which one a copy.

#![forbid(unsafe_code)]

use super::{
    super::{
        branch_spec::split_at_byte,
        num, //
    },
    choice::choice,
    Bad, //
};

/// The seconds for which a measured free space is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep(Option<u16>);

impl Keep {
    /// The most seconds that can be asked for.
    const MAX: u16 = 3600;
    /// The seconds if nothing was asked for.
    const DEFAULT: u16 = 30;

    /// Makes a value from what was given, if it is in range.
    pub fn given(seconds: u64) -> Option<Self> {
        let seconds = u16::try_from(seconds).ok()?;
        (seconds <= Self::MAX).then_some(Keep(Some(seconds)))
    }

    /// Returns the seconds.
    pub fn seconds(self) -> u16 {
        self.0.unwrap_or(Self::DEFAULT)
    }
}

/// How the branch for a new entry is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CreatePolicy {
    /// `tdp`: the topmost branch that has the parent.
    #[default]
    Tdp,
    /// `rr`: one after the other.
    Rr,
    /// `mfs`: the one with most free space.
    Mfs {
        /// How long the free space is believed.
        keep: Keep,
    },
    /// `mfsrr`: as `mfs`, but `rr` below a limit.
    MfsRr {
        /// The limit in bytes.
        low: u64,
        /// How long the free space is believed.
        keep: Keep,
    },
    /// `tdmfs`: from the top, the first with more free space than a limit, or else `mfs`.
    TdMfs {
        /// The limit in bytes.
        low: u64,
        /// How long the free space is believed.
        keep: Keep,
    },
    /// `pmfs`: the one with most free space among those that have the parent.
    Pmfs {
        /// How long the free space is believed.
        keep: Keep,
    },
    /// `pmfsrr`: as `pmfs`, but `mfsrr` below a limit.
    PmfsRr {
        /// The limit in bytes.
        low: u64,
        /// How long the free space is believed.
        keep: Keep,
    },
}

impl CreatePolicy {
    /// What the value looks like, for manuals.
    #[cfg(not(CONFIG_RUST))]
    pub(super) const SYNTAX: &'static str = "tdp|rr|mfs[:SEC]|pmfs[:SEC]|mfsrr:BYTES[:SEC]|\
                                             tdmfs:BYTES[:SEC]|pmfsrr:BYTES[:SEC]";

    /// Reads the value of `create=`.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Bad> {
        let (word, rest) = split_at_byte(text, b':');
        let mut args = Args(rest);
        let policy = match word {
            b"tdp" | b"top-down-parent" => CreatePolicy::Tdp,
            b"rr" | b"round-robin" => CreatePolicy::Rr,
            b"mfs" | b"most-free-space" => CreatePolicy::Mfs { keep: args.keep()? },
            b"pmfs" => CreatePolicy::Pmfs { keep: args.keep()? },
            b"mfsrr" => CreatePolicy::MfsRr {
                low: args.low()?,
                keep: args.keep()?,
            },
            b"tdmfs" => CreatePolicy::TdMfs {
                low: args.low()?,
                keep: args.keep()?,
            },
            b"pmfsrr" => CreatePolicy::PmfsRr {
                low: args.low()?,
                keep: args.keep()?,
            },
            _ => return Err(Bad::invalid(CREATE)),
        };
        match args.0 {
            None => Ok(policy),
            Some(_) => Err(Bad::invalid(CREATE)),
        }
    }

    /// The seconds for which measured free space is believed; `None` if the policy does not
    /// measure it.
    pub fn believes(&self) -> Option<u16> {
        match *self {
            CreatePolicy::Tdp | CreatePolicy::Rr => None,
            CreatePolicy::Mfs { keep }
            | CreatePolicy::Pmfs { keep }
            | CreatePolicy::MfsRr { keep, .. }
            | CreatePolicy::TdMfs { keep, .. }
            | CreatePolicy::PmfsRr { keep, .. } => Some(keep.seconds()),
        }
    }

    /// Writes the policy with the parameters that were given.
    pub fn write_to(&self, out: &mut dyn FnMut(&[u8])) {
        let (word, low, keep): (&[u8], _, _) = match *self {
            CreatePolicy::Tdp => (b"tdp", None, Keep(None)),
            CreatePolicy::Rr => (b"rr", None, Keep(None)),
            CreatePolicy::Mfs { keep } => (b"mfs", None, keep),
            CreatePolicy::MfsRr { low, keep } => (b"mfsrr", Some(low), keep),
            CreatePolicy::TdMfs { low, keep } => (b"tdmfs", Some(low), keep),
            CreatePolicy::Pmfs { keep } => (b"pmfs", None, keep),
            CreatePolicy::PmfsRr { low, keep } => (b"pmfsrr", Some(low), keep),
        };
        out(word);
        for n in [low, keep.0.map(u64::from)].into_iter().flatten() {
            out(b":");
            out(num::decimal(n, &mut [0; 20]));
        }
    }
}

/// What `create=` allows.
const CREATE: &str = "must be tdp, rr, mfs[:SEC], pmfs[:SEC], mfsrr:BYTES[:SEC], \
                      tdmfs:BYTES[:SEC] or pmfsrr:BYTES[:SEC]";

/// The parameters of a policy that are not read yet.
struct Args<'a>(Option<&'a [u8]>);

impl Args<'_> {
    /// Takes the next one.
    fn next(&mut self) -> Option<&[u8]> {
        let (arg, rest) = split_at_byte(self.0?, b':');
        self.0 = rest;
        Some(arg)
    }

    /// Takes the limit, which must be there.
    fn low(&mut self) -> Result<u64, Bad> {
        self.next()
            .and_then(num::parse_unsigned)
            .ok_or(Bad::invalid("needs a number of bytes: POLICY:BYTES[:SEC]"))
    }

    /// Takes the seconds, which may be left out.
    fn keep(&mut self) -> Result<Keep, Bad> {
        let Some(arg) = self.next() else {
            return Ok(Keep::default());
        };
        num::parse_unsigned(arg)
            .and_then(Keep::given)
            .ok_or(Bad::invalid("the seconds must be a number from 0 to 3600"))
    }
}

choice! {
    /// How the branch is chosen to which an entry is copied up.
    CopyUpPolicy, "tdp|bup|bu", "must be tdp, bup or bu" {
        /// The topmost writable branch that has the parent.
        #[default]
        Tdp = "tdp" | "top-down-parent",
        /// The nearest writable branch that has the parent.
        Bup = "bup" | "bottom-up-parent",
        /// The nearest writable branch.
        Bu = "bu" | "bottom-up",
    }
}
