// SPDX-License-Identifier: GPL-2.0

//! Layouts of ioctls.

use logic::env::KVec;

use logic::uapi::*;

/// The size that the number of a command states.
fn stated(command: u32) -> usize {
    (command as usize >> 16) & 0x3fff
}

#[test]
fn numbers_state_the_sizes() {
    assert_eq!(stated(RDU), Rdu::SIZE);
    assert_eq!(stated(RDU_INO), Rdu::SIZE);
    assert_eq!(stated(WBR_FD), WbrFd::SIZE);
    assert_eq!(stated(IBUSY), Ibusy::SIZE);
    assert_eq!(stated(MVDOWN), Mvdown::SIZE);
    assert_eq!(stated(BRINFO), BRINFO_SIZE);
    assert_eq!(stated(FHSM_FD), size_of::<i32>());
    // Two of them, after the flags and before the reason.
    assert_eq!(Mvdown::SIZE, 8 + 2 * Stbr::SIZE + 8);
}

#[test]
fn fields_come_back_from_their_places() {
    let ibusy = Ibusy {
        ino: 0x0102_0304_0506_0708,
        lower_ino: 9,
        index: -2,
    };
    let bytes = ibusy.encode();
    assert_eq!(bytes[..8], ibusy.ino.to_ne_bytes());
    assert_eq!(bytes[8..16], 9u64.to_ne_bytes());
    assert_eq!(bytes[16..18], (-2i16).to_ne_bytes());
    assert_eq!(bytes[18..], [0; 6]);
    assert_eq!(Ibusy::decode(&bytes), ibusy);

    let all: [u8; 64] = std::array::from_fn(|i| i as u8);
    let rdu = Rdu::decode(&all);
    assert_eq!(rdu.generation, u32::from_ne_bytes([60, 61, 62, 63]));
    assert_eq!((rdu.full, rdu.show_whiteouts), (40, 41));
    assert_eq!(rdu.index, i16::from_ne_bytes([56, 57]));
    assert_eq!(Rdu::decode(&rdu.encode()), rdu);
}

#[test]
fn a_branch_is_told_about() {
    let all: [u8; 40] = std::array::from_fn(|i| i as u8);
    let stbr = Stbr::decode(&all);
    let short = |at: u8| i16::from_ne_bytes([at, at + 1]);
    assert_eq!((stbr.id, stbr.index), (short(0), short(2)));
    let longs = [stbr.blocks, stbr.available, stbr.files, stbr.free_files];
    assert_eq!(longs.map(|long| long.to_ne_bytes()[0]), [8, 16, 24, 32]);
    assert_eq!(stbr.encode()[4..8], [0; 4]);
}

#[test]
fn a_move_down_tells_where_and_why() {
    let all: [u8; 96] = std::array::from_fn(|i| i as u8);
    let mvdown = Mvdown::decode(&all);
    let id = |at: u8| i16::from_ne_bytes([at, at + 1]);
    assert_eq!((mvdown.upper_id, mvdown.upper_index), (id(8), id(10)));
    assert_eq!((mvdown.lower_id, mvdown.lower_index), (id(48), id(50)));
    assert_eq!(mvdown.lower_blocks.to_ne_bytes()[0], 56);
    assert_eq!(mvdown.reason, 88);
    for bit in 0..32 {
        let one = Mvdown {
            flags: 1 << bit,
            ..Mvdown::default()
        };
        assert_eq!(one.has(Mvdown::ANSWERS), [4, 6, 11, 12].contains(&bit));
    }
    let reasons = [
        MvdownReason::Other,
        MvdownReason::Opaque,
        MvdownReason::Whiteout,
        MvdownReason::Upper,
        MvdownReason::Bottom,
        MvdownReason::NoUpper,
        MvdownReason::NoLower,
    ];
    for (number, reason) in reasons.into_iter().enumerate() {
        assert_eq!(reason as usize, number);
        assert!(!reason.text().is_empty());
    }
}

#[test]
fn entries_are_records_of_whole_words() {
    for (len, record) in [(1, 24), (7, 24), (8, 32), (15, 32), (16, 40), (255, 272)] {
        assert_eq!(RduEntry::record_len(len), record, "{len}");
    }
    let mut records = KVec::new();
    let entry = RduEntry {
        ino: 5,
        index: 1,
        kind: 8,
        ..RduEntry::default()
    };
    assert!(entry.append(b"name", &mut records, 48).unwrap());
    assert!(entry.append(b"..", &mut records, 48).unwrap());
    assert!(!entry.append(b".", &mut records, 71).unwrap(), "no room");
    assert_eq!(records.len(), 48);
    assert_eq!(&records[13..18], b"name\0");
    let first = RduEntry::decode(records[..16].try_into().unwrap());
    assert_eq!((first.ino, first.index, first.kind), (5, 1, 8));
    assert_eq!(first.name_len, 4);
    assert!(!first.is_dot() && !first.is_dot_dot());
    assert!(RduEntry::decode(records[24..40].try_into().unwrap()).is_dot_dot());
}
