//! Which threads serve which clients, as waking shows it: a client in the middle of a request says one more
//! byte, and /proc tells which threads were awake for it. How many threads a language's runtime keeps for
//! itself, and how many processors there are, changes nothing in that.

use std::collections::{BTreeSet, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::client::Client;
use crate::processes::Process;
use crate::scene::Scene;
use crate::words::counted;

/// What each client says, a byte a round; it begins with `GET / HT`.
const ROUNDS: [&[u8]; 3] = [b"TP/1", b".1\r\n", b"X: a"];

/// Processor time in ticks of 10 ms after which a server that never sleeps is waited for no longer.
const TICKS: u64 = 5;

/// How clients and threads belong together.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Model {
    /// Each client wakes a thread that no other client wakes, in so many processes.
    Own(usize),
    /// Each client always wakes the same one thread, and so many threads are shared by all.
    Shared(usize),
    /// The bytes of some clients wake nobody.
    Deaf,
    /// Several threads wake for a client, or now this one and now that one, as a runtime does that moves its
    /// tasks about.
    Mixed,
}

/// What was found, and in words.
pub(super) struct Found {
    pub(super) model: Model,
    pub(super) words: String,
}

pub(super) fn all_threads(scene: &Scene) -> usize {
    scene.family().iter().map(Process::threads).sum()
}

/// Clients in the middle of a request (or of a word).
pub(super) fn held(scene: &Scene, count: usize) -> Result<Vec<Client>, Failure> {
    let mut clients = scene.connect_many(count)?;
    for client in &mut clients {
        client.says("GET / HT");
    }
    Ok(clients)
}

/// Watches the server with no client, with one, and with so many; the clients stay.
pub(super) fn watch(scene: &Scene, count: usize) -> Result<(Found, Vec<Client>), Failure> {
    scene.wait_until_idle(1);
    let threads = all_threads(scene);
    let mut clients = held(scene, 1)?;
    scene.wait_until_idle(1);
    let with_one = all_threads(scene);
    clients.extend(held(scene, count - 1)?);
    scene.wait_until_idle(2);
    let with_all = all_threads(scene);
    let mut found = (Model::Mixed, 0);
    for bytes in ROUNDS {
        let text = format!(
            "each of the {count} clients says {} bytes more, one at a time, and the threads that wake are counted",
            bytes.len()
        );
        found = scene.in_one_line(&text, || Ok(woken(scene, &mut clients, bytes)))?;
        if found.0 != Model::Mixed {
            break;
        }
    }
    let (model, woken) = found;
    let words = format!(
        "with no client {}, with one {with_one}, with {count} {with_all}; when the {count} clients spoke in turn, {}",
        counted(threads, "thread"),
        match &model {
            Model::Own(_) => format!("each woke a thread of its own, {woken} in all"),
            Model::Shared(1) => "one thread woke for all of them".to_owned(),
            Model::Shared(_) => format!("each woke one of {woken} threads, which they share"),
            Model::Deaf => format!(
                "{}, and none for some of them",
                match woken {
                    0 => "no thread woke".to_owned(),
                    woken => format!("{} woke", counted(woken, "thread")),
                }
            ),
            Model::Mixed =>
                format!("{woken} threads woke, not always the same for the same client"),
        }
    );
    Ok((Found { model, words }, clients))
}

/// Lets each client say these bytes, a round for each byte. Returns the model and how many threads have
/// woken.
fn woken(scene: &Scene, clients: &mut [Client], bytes: &[u8]) -> (Model, usize) {
    let family = scene.family();
    let processes: HashMap<u32, u32> = family
        .iter()
        .flat_map(|process| process.sleeps().into_keys().map(|thread| (thread, process.pid)))
        .collect();
    let mut rounds: Vec<Vec<BTreeSet<u32>>> = vec![Vec::new(); clients.len()];
    let mut before = sleeps(&family);
    for byte in bytes {
        for (client, rounds) in clients.iter_mut().zip(&mut rounds) {
            client.says([*byte]);
            until_asleep(&family);
            let after = sleeps(&family);
            let woke = |(thread, slept): (&u32, &u64)| {
                (*slept > before.get(thread).copied().unwrap_or(0)).then_some(*thread)
            };
            rounds.push(after.iter().filter_map(woke).collect());
            before = after;
        }
    }
    let all: BTreeSet<u32> = rounds.iter().flatten().flatten().copied().collect();
    (judge(&rounds, &processes), all.len())
}

/// A thread that wakes by the clock, or to help another, is there in one round and not in the next; so what
/// counts for a client is who woke in every round. Where all is slow, that may still be another client's
/// thread too, once.
fn judge(rounds: &[Vec<BTreeSet<u32>>], processes: &HashMap<u32, u32>) -> Model {
    let always = |rounds: &Vec<BTreeSet<u32>>| {
        let first = rounds.first().cloned().unwrap_or_default();
        rounds.iter().fold(first, |always, round| &always & round)
    };
    let always: Vec<BTreeSet<u32>> = rounds.iter().map(always).collect();
    let clients_of = |thread: &u32| always.iter().filter(|woken| woken.contains(thread)).count();
    let is_own = |thread: &&u32| clients_of(thread) <= usize::max(1, rounds.len() / 4);
    let own: BTreeSet<&u32> = always.iter().flatten().filter(is_own).collect();
    if own.len() >= rounds.len() && always.iter().all(|woken| woken.iter().any(|t| is_own(&t))) {
        let places: BTreeSet<_> = own.into_iter().map(|thread| processes.get(thread)).collect();
        return Model::Own(places.len());
    }
    if rounds.iter().any(|rounds| rounds.iter().all(BTreeSet::is_empty)) {
        return Model::Deaf;
    }
    let turns: usize = rounds.iter().map(Vec::len).sum();
    let woke: usize = rounds.iter().flatten().map(BTreeSet::len).sum();
    if always.iter().all(|woken| woken.len() == 1) && woke < turns + turns / 4 {
        let shared: BTreeSet<u32> = always.into_iter().flatten().collect();
        return Model::Shared(shared.len());
    }
    Model::Mixed
}

fn sleeps(family: &[Process]) -> HashMap<u32, u64> {
    family.iter().flat_map(Process::sleeps).collect()
}

/// What was sent has woken somebody before the call returned; waits until nobody is awake at two looks.
pub(super) fn until_asleep(family: &[Process]) {
    let ticks =
        || family.iter().filter_map(Process::again).map(|process| process.ticks).sum::<u64>();
    let (start, end) = (ticks(), Instant::now() + Duration::from_secs(5));
    let mut asleep = 0;
    while asleep < 2 && ticks() < start + TICKS && Instant::now() < end {
        thread::park_timeout(Duration::from_micros(200));
        asleep = if family.iter().any(Process::has_work) { 0 } else { asleep + 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(rounds: &[&[&[u32]]]) -> Model {
        let rounds: Vec<Vec<BTreeSet<u32>>> = rounds
            .iter()
            .map(|client| client.iter().map(|woken| woken.iter().copied().collect()).collect())
            .collect();
        judge(&rounds, &HashMap::from([(1, 1), (2, 1), (3, 3), (4, 4)]))
    }

    #[test]
    fn models_are_told_apart() {
        assert_eq!(model(&[&[&[1], &[1]], &[&[2], &[2]]]), Model::Own(1));
        assert_eq!(model(&[&[&[1], &[1, 3]], &[&[2], &[2]], &[&[3], &[3, 1]]]), Model::Own(2));
        assert_eq!(model(&[&[&[1], &[1]], &[&[1], &[1]]]), Model::Shared(1));
        assert_eq!(
            model(&[&[&[1], &[1]], &[&[3], &[3]], &[&[1], &[1]], &[&[3], &[3]]]),
            Model::Shared(2)
        );
        assert_eq!(model(&[&[&[1], &[1]], &[&[], &[]]]), Model::Deaf);
        assert_eq!(model(&[&[&[1, 2], &[1, 3]], &[&[1, 2], &[1, 2]]]), Model::Mixed);
        assert_eq!(model(&[&[&[1], &[2]], &[&[2], &[1]]]), Model::Mixed);
    }
}
