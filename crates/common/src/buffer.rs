//! Buffers that pass from one connection to the next, so that a request costs no allocation.

use std::cell::RefCell;

/// What most heads and small pages fit into, in bytes.
const USUAL_CAPACITY: usize = 4096;
/// A buffer that has grown beyond this, in bytes, is freed instead.
const MAX_CAPACITY: usize = 64 * 1024;
/// How many a thread keeps. One connection needs two at a time, and hardly two are busy at once in
/// one thread.
const MAX_SPARE: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with some capacity.
pub(crate) fn take() -> Vec<u8> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(USUAL_CAPACITY))
}

/// Keeps a buffer that is no longer needed for the next one who takes one.
pub(crate) fn give_back(mut buffer: Vec<u8>) {
    buffer.clear();
    SPARE.with_borrow_mut(|spare| {
        if (1..=MAX_CAPACITY).contains(&buffer.capacity()) && spare.len() < MAX_SPARE {
            spare.push(buffer);
        }
    });
}
