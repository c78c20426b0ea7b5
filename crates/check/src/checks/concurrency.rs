//! Several clients at once. Each check is decided by the order of events: who was answered while who
//! was still waiting.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;

use super::judge::judge_order;
use super::wire::printf;
use super::{Outcome, a_target};
use crate::client::Client;
use crate::processes::{Process, below};
use crate::scene::{Scene, get, get_and_stay};
use crate::story::Symptom::{Ended, Silent};
use crate::story::{Explain, Fault};

/// A request that has begun, and nothing more.
const HALF: &str = "GET / HTTP/1.1\r\nHost: loc";

/// The other half.
const OTHER_HALF: &str = "alhost\r\nConnection: close\r\n\r\n";

/// The last client, by hand: it says something, and must be served at once.
pub(super) fn served_at_once(scene: &Scene) -> &'static str {
    if scene.step.number() == "07" {
        "echo word | nc -N -w 5 127.0.0.1 8080  # word is printed at once"
    } else {
        "curl -i -m 5 http://127.0.0.1:8080/  # answered at once"
    }
}

/// So many clients of whom each does this (commands whose output is sent) and then stays for half a
/// minute, and behind them the one that must be served.
pub(super) fn waiting_by_hand(scene: &Scene, count: usize, does: &str) -> String {
    let waits = format!("({does}sleep 30) | nc -N 127.0.0.1 8080 > /dev/null &");
    let last = served_at_once(scene);
    match count {
        1 => format!("{waits} sleep 1; {last}"),
        _ => format!("(for i in $(seq {count}); do {waits} done); sleep 1; {last}"),
    }
}

/// The client has its answer, or its word is printed.
fn is_served(scene: &Scene, client: &mut Client, number: usize) -> Outcome {
    if scene.step.number() == "07" {
        return scene.is_printed(&word(scene, client));
    }
    let (_, file) = a_target(scene, number);
    let answer = client.answer()?;
    judge_order(&answer, file, &scene.site.small_files())
}

/// The client asks for its target, or says its word.
fn asks(scene: &Scene, client: &mut Client, number: usize) {
    if scene.step.number() == "07" {
        client.says(word(scene, client));
    } else {
        client.says(get(a_target(scene, number).0));
    }
}

/// A word that only this client says.
fn word(scene: &Scene, client: &Client) -> String {
    format!("word-{}-{}.", scene.site.secret_name, client.number)
}

pub(super) fn eight(scene: &mut Scene) -> Outcome {
    scene.by_hand(if scene.step.number() == "07" {
        "(for i in $(seq 8); do (sleep 1; echo word $i) | nc -N 127.0.0.1 8080 & done; wait)  \
         # eight words are printed"
            .to_owned()
    } else {
        format!(
            "(for i in $(seq 8); do (sleep 1; {}) | nc -w 5 127.0.0.1 8080 | head -n 1 & done; wait)  \
             # eight times 200",
            printf("GET", "/")
        )
    });
    let mut clients = scene.connect_many(8)?;
    for (number, client) in clients.iter_mut().enumerate() {
        asks(scene, client, number);
    }
    for (number, mut client) in clients.into_iter().enumerate() {
        is_served(scene, &mut client, number).because(
            &[Silent],
            "the server did not go on to the next client, or lost one that had to wait",
        )?;
        // A server that reads on until its client has gone must see that it has.
        if scene.step.number() != "07" {
            client.drains(&scene.leaves_open);
        }
    }
    Ok(())
}

pub(super) fn leaves(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!("sleep 2 | nc -N 127.0.0.1 8080 & sleep 1; {}", served_at_once(scene)));
    let silent = scene.connect()?;
    let mut client = scene.connect()?;
    asks(scene, &mut client, 1);
    silent.leave();
    is_served(scene, &mut client, 1).because(
        &[Silent],
        "a read of no bytes is the end of a connection, and the server did not notice",
    )
}

pub(super) fn silent(scene: &mut Scene) -> Outcome {
    scene.by_hand(waiting_by_hand(scene, 1, ""));
    let mut silent = scene.connect()?;
    let mut client = scene.connect()?;
    asks(scene, &mut client, 1);
    let cause = "the server waits for client 1 to say something, and meanwhile serves nobody else";
    is_served(scene, &mut client, 1).because(&[Silent], cause)?;
    still_held(&mut silent, cause)
}

/// Whoever was answered was answered while this client was still connected.
fn still_held(waiting: &mut Client, cause: &str) -> Outcome {
    if !waiting.was_let_go() {
        return Ok(());
    }
    Fault::expected(format!("an answer while client {} is still connected", waiting.number))
        .saw(format!("the server let go of client {} first", waiting.number))
        .cause(cause)
        .fail()
}

pub(super) fn dripping(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!(
        "(for i in $(seq 30); do printf G; sleep 1; done) | nc -N 127.0.0.1 8080 > /dev/null & sleep 1; {}",
        served_at_once(scene)
    ));
    let request = get("/");
    let mut slow = scene.connect()?;
    for byte in &request.as_bytes()[..20] {
        slow.says([*byte]);
        let (target, file) = a_target(scene, 0);
        let cause = "the server reads on from client 1 until its request is complete, and serves nobody else meanwhile";
        let reply = scene.ask(target).because(&[Silent], cause)?;
        if let Some(file) = file {
            judge_order(&reply.whole(), Some(file), &scene.site.small_files())?;
        }
        if slow.was_let_go() {
            return still_held(&mut slow, cause);
        }
    }
    slow.says(&request.as_bytes()[20..]);
    let answer = slow.answer()?;
    judge_order(&answer, a_target(scene, 0).1, &scene.site.small_files())
}

pub(super) fn reverse(scene: &mut Scene) -> Outcome {
    scene.by_hand(waiting_by_hand(scene, 7, ""));
    let mut clients = scene.connect_many(8)?;
    for (number, client) in clients.iter_mut().enumerate().rev() {
        asks(scene, client, number);
        is_served(scene, client, number).because(
            &[Silent],
            "the server waits for clients that came earlier and have sent nothing yet",
        )?;
    }
    Ok(())
}

/// So many ask at once.
const AT_ONCE: usize = 8;

/// Found asleep with another number of answers so often, the server has made one answer after the other.
const ONE_BY_ONE: usize = 3;

/// All have asked, and whoever waits, waits for the server. If that sleeps again and again when one more
/// answer has come, it sleeps in the middle of each, and everybody else waits for that.
pub(super) fn overlapping(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!(
        "time (for i in $(seq {AT_ONCE}); do curl -s -o /dev/null -m 20 http://127.0.0.1:8080/ & done; wait)  \
         # not much longer than one"
    ));
    let mut clients = scene.connect_many(AT_ONCE)?;
    for (number, client) in clients.iter_mut().enumerate() {
        asks(scene, client, number);
    }
    let mut asleep_with = BTreeSet::new();
    scene.wait_for(|| {
        let mut answered =
            || clients.iter_mut().map(|client| usize::from(client.has_something())).sum::<usize>();
        let before = answered();
        // A child that was just made may be missed by one look, and answers may come between the two.
        let sleeps = |family: &[Process]| !family.iter().any(Process::has_work);
        let leader = scene.server.pid();
        if before > 0
            && before < AT_ONCE
            && sleeps(&below(leader))
            && sleeps(&scene.family())
            && sleeps(&below(leader))
            && answered() == before
        {
            asleep_with.insert(before);
        }
        before == AT_ONCE
    });
    if asleep_with.len() >= ONE_BY_ONE {
        return Fault::expected(format!("answers that overlap, since {AT_ONCE} clients have asked at once"))
            .saw(format!(
                "the answers never overlapped: {} times one or a few had come, and the server slept while the \
                 others waited",
                asleep_with.len()
            ))
            .cause(
                "something in the middle of an answer waits (a sleep, a lock, a slow call), and the one loop or \
                 lock that makes all answers waits with it",
            )
            .fail();
    }
    clients.iter_mut().enumerate().try_for_each(|(number, client)| is_served(scene, client, number))
}

pub(super) fn slow_reader(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!(
        "curl -s -m 30 --limit-rate 10k -o /dev/null http://127.0.0.1:8080{} & sleep 1; {}",
        scene.site.big.target,
        served_at_once(scene)
    ));
    let mut slow = scene.connect()?;
    slow.shrink_receive_buffer(64 * 1024)?;
    slow.says(get(&scene.site.big.target));
    slow.reads_some();
    scene.aside("client 1 reads nothing more for now");
    let mut client = scene.connect()?;
    asks(scene, &mut client, 1);
    is_served(scene, &mut client, 1).because(
        &[Silent],
        "the server waits until client 1 has taken its answer, and serves nobody else meanwhile",
    )
}

pub(super) fn between_requests(scene: &mut Scene) -> Outcome {
    scene.by_hand(waiting_by_hand(scene, 1, "printf 'GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n'; "));
    let page = &scene.site.page;
    let files = scene.site.small_files();
    let mut stays = scene.connect()?;
    stays.says(get_and_stay(&page.target));
    judge_order(&stays.answer()?, Some(page), &files)?;
    scene.still_serves().because(
        &[Silent],
        "the server waits for the next request of client 1, and serves nobody else meanwhile",
    )?;
    scene.by_hand(format!(
        "(printf 'GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n'; sleep 2; {}) | nc -w 5 127.0.0.1 8080 | grep -a HTTP/  \
         # two answers",
        printf("GET", "/")
    ));
    stays.says(get_and_stay(&page.target));
    let answer = stays.answer().because(
        &[Ended],
        "the connection of client 1 was ended although it was not idle for long",
    )?;
    judge_order(&answer, Some(page), &files)
}

pub(super) fn sixty_four(scene: &mut Scene) -> Outcome {
    many(scene, 64)
}

pub(super) fn three_hundred(scene: &mut Scene) -> Outcome {
    many(scene, 300)
}

/// All but the last say half of what they want; the last must be served while they wait, and then the
/// others, from the last to the first.
fn many(scene: &mut Scene, count: usize) -> Outcome {
    scene.by_hand(waiting_by_hand(scene, count - 1, "printf 'GET / HT'; "));
    let mut clients = scene.connect_many(count)?;
    if scene.step.number() == "07" {
        for client in clients.iter_mut().rev() {
            client.says(word(scene, client));
        }
        return clients.iter().try_for_each(|client| scene.is_printed(&word(scene, client)));
    }
    for client in &mut clients[..count - 1] {
        client.says(HALF);
    }
    while let Some(mut client) = clients.pop() {
        let waiting = clients.len();
        client.says(if waiting == count - 1 { get("/") } else { OTHER_HALF.to_owned() });
        let file = scene.step.serves_files.then_some(&scene.site.index);
        client
            .answer()
            .and_then(|answer| judge_order(&answer, file, &scene.site.small_files()))
            .because(
                &[Silent],
                &format!(
                    "{} in the middle of a request, and nobody is left to serve one more: a pool \
                     with too few workers, or one that serves in turn",
                    if waiting == 1 {
                        "1 client waits".to_owned()
                    } else {
                        format!("{waiting} clients wait")
                    }
                ),
            )?;
        if let Some(first) = clients.first_mut()
            && first.was_let_go()
        {
            return still_held(
                first,
                "a place became free only because the server let go of somebody",
            );
        }
    }
    Ok(())
}

/// The server is stopped, and meanwhile two of eight clients leave and the others speak. One walk over
/// the list hears all of them, in the order of the list. If the walk was stopped in the middle, it begins
/// further down, and those above follow in the next walk: a rotation of the order.
pub(super) fn nobody_is_skipped(scene: &mut Scene) -> Outcome {
    scene.by_hand(
        "(for i in 1 2 3 4; do (sleep 2; [ $i = 1 ] || (echo word $i; sleep 3)) | nc -N 127.0.0.1 8080 > /dev/null & sleep 0.2; done); \
         kill -STOP $SERVER; sleep 3; kill -CONT $SERVER; sleep 2  # client 1 has gone; word 2, word 3, word 4 are printed in this order",
    );
    for round in 0..3 {
        let mut clients = scene.connect_many(8)?;
        for client in &mut clients {
            client.says(word(scene, client));
            scene.is_printed(&word(scene, client))?;
        }
        scene.aside("the server is stopped (SIGSTOP), so that what follows comes in one round");
        scene.server.signal_group(Signal::SIGSTOP)?;
        let stopped = scene
            .wait_for(|| scene.family().iter().all(|process| matches!(process.state, 'T' | 'Z')));
        let mut words = Vec::new();
        for (number, mut client) in clients.drain(..).enumerate() {
            if number % 4 == 0 {
                client.leave();
            } else {
                let word = format!("again-{round}-{}", word(scene, &client));
                client.says(&word);
                words.push((word, client));
            }
        }
        scene.aside("the server goes on (SIGCONT)");
        scene.server.signal_group(Signal::SIGCONT)?;
        if !stopped {
            return Err("the server could not be stopped for a moment".into());
        }
        for (word, _) in &words {
            scene.is_printed(word)?;
        }
        let log = scene.server.log();
        let mut heard: Vec<usize> = (0..words.len()).collect();
        heard.sort_by_key(|at| log.find(&words[*at].0));
        let is_rotation =
            heard.windows(2).filter(|pair| pair[1] != (pair[0] + 1) % words.len()).count() == 0;
        if !is_rotation {
            let numbers = |order: &[usize]| {
                let clients: Vec<_> =
                    order.iter().map(|at| words[*at].1.number.to_string()).collect();
                clients.join(", ")
            };
            let expected: Vec<usize> = (0..words.len()).collect();
            return Fault::expected(format!(
                "all clients are heard in the round in which they spoke, in the order of the list: {}",
                numbers(&expected)
            ))
            .saw(format!("they were heard in this order: {}", numbers(&heard)))
            .cause(
                "the list was changed while it was walked: when a client is removed, the next one moves \
                 to its place, and the walk goes on behind it",
            )
            .fail();
        }
    }
    Ok(())
}
