// SPDX-License-Identifier: GPL-2.0

//! The hash of names.

use std::hash::Hasher;

use proptest::prelude::*;

use logic::hash::Key;

/// The example of the paper on SipHash.
#[test]
fn authenticates_by_siphash_2_4() {
    let key = Key(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
    let bytes: Vec<u8> = (0..15).collect();
    assert_eq!(key.authenticate(&bytes), 0xa129_ca61_49be_45e5);
}

proptest! {
    /// The standard library's hasher is SipHash-1-3 with an all-zero key.
    #[test]
    fn is_siphash_1_3(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut model = std::collections::hash_map::DefaultHasher::new();
        model.write(&bytes);
        prop_assert_eq!(Key(0, 0).hash64(&bytes), model.finish());
        prop_assert_eq!(Key(0, 0).hash(&bytes), model.finish() as u32);
    }

    #[test]
    fn depends_on_the_key(bytes in proptest::collection::vec(any::<u8>(), 0..40), a: u64, b: u64) {
        prop_assert_ne!(Key(a, b).hash64(&bytes), Key(a ^ 1, b).hash64(&bytes));
        prop_assert_ne!(Key(a, b).hash64(&bytes), Key(a, b ^ (1 << 63)).hash64(&bytes));
    }
}
