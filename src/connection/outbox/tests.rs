//! Tests of outboxes, and of the accounts that the outboxes of a shard share.

use super::*;
use crate::protocol::Protocol;
use crate::ws;

const WIRE: Wire = Wire::websocket(Protocol::Plain);

/// Returns frames with one message of `length` bytes.
fn message(length: usize) -> Vec<u8> {
    let mut frames = Vec::new();
    ws::encode_frame(ws::Opcode::Binary, &vec![b'x'; length], &mut frames);
    frames
}

#[test]
fn what_goes_in_comes_out_in_order_whatever_the_kernel_takes() {
    let (mut outbox, mut accounts) = (Outbox::default(), Accounts::default());
    let long = [b'f'; PIECE_SHARED_BYTES_MIN];
    outbox.push_own(b"abc", &mut accounts);
    outbox.push_own(b"de", &mut accounts);
    outbox.push_shared(Frames::new(long.to_vec()), &mut accounts);
    outbox.push_shared(Frames::new(b"gh".to_vec()), &mut accounts);
    outbox.push_own(b"i", &mut accounts);
    let mut out = Vec::new();
    while !outbox.is_empty() {
        let mut gathered = Vec::new();
        outbox.gather(4, &mut gathered);
        out.extend_from_slice(&gathered[..gathered.len().min(3)]);
        outbox.consume(gathered.len().min(3), &mut accounts);
        assert!(outbox.is_consistent());
    }
    assert_eq!(out, [b"abcde", &long[..], b"ghi"].concat());
    assert_eq!((outbox.cost_bytes(), accounts.bytes()), (0, 0));
}

#[test]
fn shared_frames_are_charged_once_and_references_to_who_holds_them() {
    let mut accounts = Accounts::default();
    let frames = Frames::new(message(100_000));
    let mut outboxes: Vec<Outbox> = (0..100).map(|_| Outbox::default()).collect();
    for outbox in &mut outboxes {
        outbox.push_shared(Rc::clone(&frames), &mut accounts);
    }
    assert_eq!(accounts.shared_bytes(), frames.memory_bytes());
    assert!(accounts.own_bytes() < 100 * 1_000, "{accounts:?}");
    let mut last = outboxes.pop().expect("there are some");
    outboxes.iter_mut().for_each(|outbox| outbox.clear(&mut accounts));
    assert_eq!(accounts.shared_bytes(), frames.memory_bytes(), "one outbox still has the frames");
    last.consume(frames.bytes().len(), &mut accounts);
    assert_eq!(accounts.bytes(), 0);
}

#[test]
fn a_publication_of_one_byte_costs_what_its_frame_has_and_little_more() {
    let (mut outbox, mut accounts) = (Outbox::default(), Accounts::default());
    let frames = Frames::new(message(1));
    let count = 100_000;
    (0..count).for_each(|_| outbox.push_shared(Rc::clone(&frames), &mut accounts));
    assert!(accounts.bytes() < 4 * count, "{} B for {count}", accounts.bytes());
}

#[test]
fn discarding_keeps_a_frame_that_has_begun_and_nothing_else() {
    let (mut outbox, mut accounts) = (Outbox::default(), Accounts::default());
    let piece = [message(200), message(700), message(300)].concat();
    outbox.push_shared(Frames::new(piece.clone()), &mut accounts);
    outbox.push_own(&message(9), &mut accounts);
    // One byte of the second frame's header has been sent.
    outbox.consume(205, &mut accounts);
    outbox.discard_unsent(WIRE, &mut accounts);
    let mut left = Vec::new();
    outbox.gather(usize::MAX, &mut left);
    assert_eq!(left, piece[205..204 + 704]);
    assert_eq!(accounts.shared_bytes(), 0);
    assert!(outbox.is_consistent());
    outbox.consume(left.len(), &mut accounts);
    assert_eq!(accounts.bytes(), 0);
}

#[test]
fn discarding_between_two_frames_or_before_the_first_keeps_nothing() {
    for sent in [0, 204] {
        let (mut outbox, mut accounts) = (Outbox::default(), Accounts::default());
        outbox.push_own(&[message(200), message(200)].concat(), &mut accounts);
        outbox.consume(sent, &mut accounts);
        outbox.discard_unsent(WIRE, &mut accounts);
        assert!(outbox.is_empty(), "{sent}");
        assert_eq!(accounts.bytes(), 0);
    }
}

#[test]
fn the_answer_to_a_request_head_is_not_taken_for_frames() {
    let (mut outbox, mut accounts) = (Outbox::default(), Accounts::default());
    let head = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
    outbox.push_own(head, &mut accounts);
    outbox.consume(5, &mut accounts);
    outbox.discard_unsent(WIRE, &mut accounts);
    let mut left = Vec::new();
    outbox.gather(usize::MAX, &mut left);
    assert_eq!(left, head[5..]);
}

#[test]
fn discarding_does_not_copy_a_long_frame_that_others_hold() {
    let mut accounts = Accounts::default();
    let frames = Frames::new([message(200), message(300_000), message(300)].concat());
    let mut outboxes: Vec<Outbox> = (0..100).map(|_| Outbox::default()).collect();
    for outbox in &mut outboxes {
        outbox.push_shared(Rc::clone(&frames), &mut accounts);
        outbox.push_own(&message(500), &mut accounts);
        outbox.consume(100_000, &mut accounts);
        outbox.discard_unsent(WIRE, &mut accounts);
    }
    assert!(accounts.bytes() < frames.memory_bytes() + 100 * 1_000, "{accounts:?}");
    outboxes.iter_mut().for_each(|outbox| outbox.clear(&mut accounts));
    assert_eq!(accounts.bytes(), 0);
}

#[test]
fn a_long_reply_is_charged_to_its_outbox_and_sent_from_where_it_is() {
    let (mut outbox, mut accounts) = (Outbox::default(), Accounts::default());
    let frames = Frames::new(message(100_000));
    let bytes = frames.bytes().as_ptr();
    outbox.push_own(b"abc", &mut accounts);
    outbox.push_long(frames, &mut accounts);
    outbox.push_own(b"de", &mut accounts);
    assert_eq!(accounts.shared_bytes(), 0);
    assert!(outbox.memory_bytes() > 100_000 && outbox.is_consistent());
    outbox.consume(3, &mut accounts);
    let (first, _, more) = outbox.front().expect("it is not empty");
    assert!(first.bytes().as_ptr() == bytes && more);
    outbox.consume(first.bytes().len(), &mut accounts);
    assert!(accounts.own_bytes() < 1_000 && outbox.is_consistent());
    outbox.clear(&mut accounts);
    assert_eq!(accounts.bytes(), 0);
}

#[test]
fn frames_can_be_put_before_all_others() {
    let (mut outbox, mut accounts) = (Outbox::default(), Accounts::default());
    outbox.push_first(b"c", &mut accounts);
    outbox.push_own(b"d", &mut accounts);
    outbox.push_shared(Frames::new(message(200)), &mut accounts);
    outbox.push_first(b"ab", &mut accounts);
    assert!(outbox.is_consistent());
    let mut gathered = Vec::new();
    outbox.gather(usize::MAX, &mut gathered);
    assert_eq!(gathered, [b"abcd", &message(200)[..]].concat());
    outbox.clear(&mut accounts);
    assert_eq!(accounts.bytes(), 0);
}
