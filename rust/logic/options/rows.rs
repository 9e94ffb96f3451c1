// SPDX-License-Identifier: GPL-2.0

//! What is made of the table of mount options ([`super::table`]).

#![forbid(unsafe_code)]

/// Reads a number within the bounds of a row.
macro_rules! number {
    ($text:expr, $default:literal, ($what:literal from $min:literal to $max:literal)) => {
        super::number($text, |n| ($min..=$max).contains(&n)).ok_or(Bad::invalid(concat!(
            "must be a ",
            $what,
            " from ",
            $min,
            " to ",
            $max
        )))
    };
    ($text:expr, $default:literal, (def or 0 or $what:literal from $min:literal to $max:literal)) => {
        super::estimated($text, $default, $min, $max).ok_or(Bad::invalid(concat!(
            "must be def, 0 (estimate) or a ",
            $what,
            " from ",
            $min,
            " to ",
            $max
        )))
    };
    ($text:expr, $default:literal, (def or 0 or $what:literal up to $max:literal)) => {
        super::estimated($text, $default, 0, $max).ok_or(Bad::invalid(concat!(
            "must be def, 0 (estimate) or a ",
            $what,
            " up to ",
            $max
        )))
    };
}

/// Returns a sentence on the bounds of a row.
#[cfg(not(CONFIG_RUST))]
macro_rules! bounds {
    (($what:literal from $min:literal to $max:literal)) => {
        concat!(" From ", $min, " to ", $max, ".")
    };
    ((def or 0 or $what:literal from $min:literal to $max:literal)) => {
        concat!(" From ", $min, " to ", $max, ", 0 (estimate) or `def`.")
    };
    ((def or 0 or $what:literal up to $max:literal)) => {
        concat!(" At most ", $max, "; 0 (estimate) or `def`.")
    };
}

/// Takes the table, and makes of it all that depends on it.
macro_rules! options {
    (
        first {
            $(
                $(#[doc = $first_help:literal])+
                $first:ident: $First:ident = $first_default:literal, $first_group:ident;
            )*
        }
        $(
            flags {
                $(
                    $(#[doc = $flag_help:literal])+
                    $flag:ident: $Flag:ident = $flag_default:literal, $flag_group:ident
                        $(, on $($on:literal)+)? $(, off $($off:literal)+)?;
                )*
            }
            values {
                $(
                    $(#[doc = $value_help:literal])+
                    $value:ident: $Value:ident($type:ty) = $value_default:expr, $value_group:ident
                        $(, also $($also:literal)+)?;
                )*
            }
            numbers {
                $(
                    $(#[doc = $number_help:literal])+
                    $number:ident: $Number:ident = $number_default:literal, $number_group:ident,
                        $number_syntax:literal, $bounds:tt;
                )*
            }
        )+
        once {
            $(
                $(#[doc = $once_help:literal])+
                $once:ident: $Once:ident, $once_group:ident;
            )*
        }
        idle {
            $(
                $(#[doc = $idle_help:literal])+
                $idle:ident: $Idle:ident, $idle_group:ident;
            )*
        }
        branches {
            $(
                $(#[doc = $branch_help:literal])+
                $($branch_word:literal)+: $Branch:ident, $branch_syntax:literal;
            )*
        }
        others {
            $(
                $(#[doc = $other_help:literal])+
                $($other_word:literal)+, $other_group:ident, $other_syntax:literal => $read:expr;
            )*
        }
    ) => {
        /// An option that is on or off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Flag {
            $($(#[doc = $first_help])+ $First,)*
            $($($(#[doc = $flag_help])+ $Flag,)*)+
            $($(#[doc = $once_help])+ $Once,)*
            $($(#[doc = $idle_help])+ $Idle,)*
        }

        /// One option.
        #[derive(Debug, PartialEq, Eq)]
        pub enum Opt {
            /// `br=B[:B...]`, `dirs=`: add these in order, counting from index 0 in each call;
            /// never empty.
            Branches(KVec<BranchSpec>),
            /// `add=N:B`, `ins=`: add this one so that it gets the index.
            Add {
                /// The index, not negative.
                index: i32,
                /// The branch.
                spec: BranchSpec,
            },
            /// `append=B`: add this one at the bottom.
            Append(BranchSpec),
            /// `prepend=B`: add this one at the top.
            Prepend(BranchSpec),
            /// `del=PATH`: remove the branch.
            Del(KVec<u8>),
            /// `mod=PATH=PERM[+ATTR]`: change the access of the branch; it is always `Some`.
            Mod(BranchSpec),
            /// `xino=PATH`.
            Xino(KVec<u8>),
            /// `noxino`.
            NoXino,
            /// `trunc_xino=PATH`: truncate the table of this branch now.
            TruncXinoBranch(KVec<u8>),
            /// `itrunc_xino=N`: truncate the table of the branch with this index, not negative,
            /// now.
            TruncXinoIndex(i32),
            /// `list_plink`: print the pseudo-links to the log.
            ListPlink,
            /// A word, or `no` and the word.
            Flag(Flag, bool),
            /// This word is accepted with a warning, and ignored.
            Obsolete(&'static str),
            /// Accepted and ignored.
            Silent,
            $($($(#[doc = $value_help])+ $Value($type),)*)+
            $($($(#[doc = $number_help])+ $Number(u32),)*)+
        }

        /// The settings of a mount; [`Default`] is what a mount without options has.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Settings {
            /// `xino=`, `noxino`.
            pub xino: Xino,
            $($(#[doc = $first_help])+ pub $first: bool,)*
            $($($(#[doc = $flag_help])+ pub $flag: bool,)*)+
            $($($(#[doc = $value_help])+ pub $value: $type,)*)+
            $($($(#[doc = $number_help])+ pub $number: u32,)*)+
        }

        impl Settings {
            /// What a mount without options has.
            pub const DEFAULT: Settings = Settings {
                xino: Xino::Default,
                $($first: $first_default,)*
                $($($flag: $flag_default,)*)+
                $($($value: $value_default,)*)+
                $($($number: $number_default,)*)+
            };

            /// Takes over `opt`; tells whether it is a setting at all.
            ///
            /// Branch options and actions of one call (`trunc_xib`, `itrunc_xino=`...) are not;
            /// what is accepted without effect (`si=`, `nodio`, obsolete words) is, though nothing
            /// changes.
            pub fn apply(&mut self, opt: &Opt) -> bool {
                match *opt {
                    Opt::Xino(_) => self.xino = Xino::Given,
                    Opt::NoXino => self.xino = Xino::None,
                    Opt::Flag(flag, on) => match flag {
                        $(Flag::$First => self.$first = on,)*
                        $($(Flag::$Flag => self.$flag = on,)*)+
                        $(Flag::$Once => return false,)*
                        $(Flag::$Idle => {})*
                    },
                    $($(Opt::$Value(value) => self.$value = value,)*)+
                    $($(Opt::$Number(n) => self.$number = n,)*)+
                    Opt::Obsolete(_) | Opt::Silent => {}
                    Opt::Branches(_)
                    | Opt::Add { .. }
                    | Opt::Append(_)
                    | Opt::Prepend(_)
                    | Opt::Del(_)
                    | Opt::Mod(_)
                    | Opt::TruncXinoBranch(_)
                    | Opt::TruncXinoIndex(_)
                    | Opt::ListPlink => return false,
                }
                true
            }

            /// Writes what aufs shows before `si=`: `,acl` or nothing.
            pub fn write_before_si(&self, out: &mut dyn FnMut(&[u8])) {
                $(Self::write_flag(self.$first, $first_default, stringify!($first), out);)*
            }

            /// Writes what aufs shows after `si=`: each setting that is not the default, after a
            /// comma.
            ///
            /// Together with [`Self::write_before_si`] this parses back to the same settings,
            /// except for the path of `xino=`.
            pub fn write_to(&self, out: &mut dyn FnMut(&[u8])) {
                if self.xino == Xino::None {
                    out(b",noxino");
                }
                $(
                    $(Self::write_flag(self.$flag, $flag_default, stringify!($flag), out);)*
                    $(
                        if self.$value != Self::DEFAULT.$value {
                            out(concat!(",", stringify!($value), "=").as_bytes());
                            self.$value.write_to(out);
                        }
                    )*
                    $(
                        if self.$number != Self::DEFAULT.$number {
                            out(concat!(",", stringify!($number), "=").as_bytes());
                            out(num::decimal(u64::from(self.$number), &mut [0; 20]));
                        }
                    )*
                )+
            }

            /// Writes a flag that is not what it is by default.
            fn write_flag(on: bool, default: bool, word: &str, out: &mut dyn FnMut(&[u8])) {
                if on != default {
                    out(if on { b"," } else { b",no" });
                    out(word.as_bytes());
                }
            }
        }

        /// Words without a value that stand for a flag.
        const FLAGS: &[(&str, Flag, bool)] = &[
            $(
                (stringify!($first), Flag::$First, true),
                (concat!("no", stringify!($first)), Flag::$First, false),
            )*
            $($(
                (stringify!($flag), Flag::$Flag, true),
                (concat!("no", stringify!($flag)), Flag::$Flag, false),
                $($(($on, Flag::$Flag, true),)+)?
                $($(($off, Flag::$Flag, false),)+)?
            )*)+
            $(
                (stringify!($once), Flag::$Once, true),
                (concat!("no", stringify!($once)), Flag::$Once, false),
            )*
            $(
                (stringify!($idle), Flag::$Idle, true),
                (concat!("no", stringify!($idle)), Flag::$Idle, false),
            )*
        ];

        /// Finds the flag of this word, and whether the word turns it on.
        pub(super) fn flag(word: &[u8]) -> Option<(Flag, bool)> {
            let row = FLAGS.iter().find(|(known, ..)| known.as_bytes() == word);
            row.map(|&(_, flag, on)| (flag, on))
        }

        /// Finds the option about branches of this word.
        pub(super) fn branch_option(word: &[u8]) -> Option<BranchOption> {
            $(if is(word, &[$($branch_word),+]) {
                return Some(BranchOption::$Branch);
            })*
            None
        }

        /// Reads an option that is neither about branches nor a flag.
        pub(super) fn parse_other(key: &[u8], value: Option<&[u8]>) -> Result<Opt, Bad> {
            $($(if is(key, &[stringify!($value) $($(, $also)+)?]) {
                return Ok(Opt::$Value(<$type>::parse(text_of(value)?)?));
            })*)+
            $($(if is(key, &[stringify!($number)]) {
                return number!(text_of(value)?, $number_default, $bounds).map(Opt::$Number);
            })*)+
            $(if let Some(&word) = [$($other_word),+].iter().find(|word| word.as_bytes() == key) {
                let read: fn(&'static str, Option<&[u8]>) -> Result<Opt, Bad> = $read;
                return read(word, value);
            })*
            Err(Bad::Unknown)
        }

        /// All options, for manuals.
        #[cfg(not(CONFIG_RUST))]
        pub const ROWS: &[Row] = &[
            $(Row {
                group: Group::Branches,
                words: &[$($branch_word),+],
                off: &[],
                syntax: $branch_syntax,
                default: Shown::Never,
                help: concat!($($branch_help),+),
            },)*
            $(Row {
                group: Group::$first_group,
                words: &[stringify!($first)],
                off: &[concat!("no", stringify!($first))],
                syntax: "",
                default: Shown::Flag($first_default),
                help: concat!($($first_help),+),
            },)*
            $(
                $(Row {
                    group: Group::$flag_group,
                    words: &[stringify!($flag) $($(, $on)+)?],
                    off: &[concat!("no", stringify!($flag)) $($(, $off)+)?],
                    syntax: "",
                    default: Shown::Flag($flag_default),
                    help: concat!($($flag_help),+),
                },)*
                $(Row {
                    group: Group::$value_group,
                    words: &[stringify!($value) $($(, $also)+)?],
                    off: &[],
                    syntax: <$type>::SYNTAX,
                    default: Shown::Value(|out| Settings::DEFAULT.$value.write_to(out)),
                    help: concat!($($value_help),+),
                },)*
                $(Row {
                    group: Group::$number_group,
                    words: &[stringify!($number)],
                    off: &[],
                    syntax: $number_syntax,
                    default: Shown::Value(|out| out(stringify!($number_default).as_bytes())),
                    help: concat!($($number_help,)+ bounds!($bounds)),
                },)*
            )+
            $(Row {
                group: Group::$once_group,
                words: &[stringify!($once)],
                off: &[concat!("no", stringify!($once))],
                syntax: "",
                default: Shown::Never,
                help: concat!($($once_help),+),
            },)*
            $(Row {
                group: Group::$idle_group,
                words: &[stringify!($idle)],
                off: &[concat!("no", stringify!($idle))],
                syntax: "",
                default: Shown::Never,
                help: concat!($($idle_help),+),
            },)*
            $(Row {
                group: Group::$other_group,
                words: &[$($other_word),+],
                off: &[],
                syntax: $other_syntax,
                default: Shown::Never,
                help: concat!($($other_help),+),
            },)*
        ];
    };
}

/// Tells whether `word` is one of `words`.
pub(super) fn is(word: &[u8], words: &[&str]) -> bool {
    words.iter().any(|known| known.as_bytes() == word)
}

#[cfg(not(CONFIG_RUST))]
pub(super) use bounds;
pub(super) use {
    number,
    options, //
};
