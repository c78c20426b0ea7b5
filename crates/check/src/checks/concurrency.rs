//! Several clients at once. Each check is decided by the order of events: who was answered while who
//! was still waiting.

use nix::sys::signal::Signal;

use super::wire::judge_order;
use super::{Outcome, a_target};
use crate::scene::{RecordedClient, Scene, get, get_and_stay};
use crate::story::{Explain, Fault};

/// A request that has begun, and nothing more.
const HALF: &str = "GET / HTTP/1.1\r\nHost: loc";

/// The other half.
const OTHER_HALF: &str = "alhost\r\nConnection: close\r\n\r\n";

const SILENT_BY_HAND: &str = "sleep 60 | nc 127.0.0.1 8080 & curl -i http://127.0.0.1:8080/";

/// The client has its answer, or its word is printed.
fn is_served(scene: &Scene, client: &mut RecordedClient, number: usize) -> Outcome {
    if scene.step.number() == "07" {
        return scene.is_printed(&word(scene, client));
    }
    let (_, file) = a_target(scene, number);
    let answer = client.answer()?;
    judge_order(&answer, file, &scene.site.small_files())
}

/// The client asks for its target, or says its word.
fn asks(scene: &Scene, client: &mut RecordedClient, number: usize) {
    if scene.step.number() == "07" {
        client.send(word(scene, client));
    } else {
        client.send(get(a_target(scene, number).0));
    }
}

/// A word that only this client says.
fn word(scene: &Scene, client: &RecordedClient) -> String {
    format!("word-{}-{}.", scene.site.secret_name, client.number)
}

pub(super) fn eight(scene: &mut Scene) -> Outcome {
    let mut clients = scene.connect_many(8)?;
    for (number, client) in clients.iter_mut().enumerate() {
        asks(scene, client, number);
    }
    for (number, mut client) in clients.into_iter().enumerate() {
        is_served(scene, &mut client, number).explain(
            "the server did not go on to the next client, or lost one that had to wait",
            "for i in 1 2 3 4 5 6 7 8; do curl -s http://127.0.0.1:8080/ & done; wait",
        )?;
        // A server that reads on until its client has gone must see that it has.
        if scene.step.number() != "07" {
            client.drains(&scene.leaves_open);
        }
    }
    Ok(())
}

pub(super) fn leaves(scene: &mut Scene) -> Outcome {
    let silent = scene.connect()?;
    let mut client = scene.connect()?;
    asks(scene, &mut client, 1);
    silent.leave();
    is_served(scene, &mut client, 1).explain(
        "a read of no bytes is the end of a connection, and the server did not notice",
        "nc -N 127.0.0.1 8080 < /dev/null; curl -i http://127.0.0.1:8080/",
    )
}

pub(super) fn silent(scene: &mut Scene) -> Outcome {
    let mut silent = scene.connect()?;
    let mut client = scene.connect()?;
    asks(scene, &mut client, 1);
    let cause = "the server waits for client 1 to say something, and meanwhile serves nobody else";
    is_served(scene, &mut client, 1).explain(cause, SILENT_BY_HAND)?;
    still_held(&mut silent, cause)
}

/// Whoever was answered was answered while this client was still connected.
fn still_held(waiting: &mut RecordedClient, cause: &str) -> Outcome {
    if !waiting.was_let_go() {
        return Ok(());
    }
    Fault::expected(format!(
        "an answer while client {} is still connected; the server let go of it first",
        waiting.number
    ))
    .cause(cause)
    .repeat(SILENT_BY_HAND)
    .fail()
}

pub(super) fn dripping(scene: &mut Scene) -> Outcome {
    let request = get("/");
    let mut slow = scene.connect()?;
    for byte in &request.as_bytes()[..20] {
        slow.send([*byte]);
        let (target, file) = a_target(scene, 0);
        let cause = "the server reads on from client 1 until its request is complete, and serves nobody else meanwhile";
        let reply = scene.ask(target).explain(cause, SILENT_BY_HAND)?;
        if let Some(file) = file {
            judge_order(&reply.whole(), Some(file), &scene.site.small_files())?;
        }
        if slow.was_let_go() {
            return still_held(&mut slow, cause);
        }
    }
    slow.send(&request.as_bytes()[20..]);
    let answer = slow.answer()?;
    judge_order(&answer, a_target(scene, 0).1, &scene.site.small_files())
}

pub(super) fn reverse(scene: &mut Scene) -> Outcome {
    let mut clients = scene.connect_many(8)?;
    for (number, client) in clients.iter_mut().enumerate().rev() {
        asks(scene, client, number);
        is_served(scene, client, number).explain(
            "the clients that came earlier and have sent nothing yet are served first",
            SILENT_BY_HAND,
        )?;
    }
    Ok(())
}

pub(super) fn slow_reader(scene: &mut Scene) -> Outcome {
    let mut slow = scene.connect()?;
    slow.shrink_receive_buffer(64 * 1024)?;
    slow.send(get(&scene.site.big.target));
    slow.read_some();
    scene.aside("client 1 reads nothing more for now");
    let mut client = scene.connect()?;
    asks(scene, &mut client, 1);
    let cause =
        "the server waits until client 1 has taken its answer, and serves nobody else meanwhile";
    is_served(scene, &mut client, 1).explain(
        cause,
        &format!("curl --limit-rate 10k -o /dev/null http://127.0.0.1:8080{} & curl -i http://127.0.0.1:8080/", scene.site.big.target),
    )
}

pub(super) fn between_requests(scene: &mut Scene) -> Outcome {
    let page = &scene.site.page;
    let files = scene.site.small_files();
    let mut stays = scene.connect()?;
    stays.send(get_and_stay(&page.target));
    judge_order(&stays.answer()?, Some(page), &files)?;
    scene.still_serves().explain(
        "the server waits for the next request of client 1, and serves nobody else meanwhile",
        SILENT_BY_HAND,
    )?;
    stays.send(get_and_stay(&page.target));
    let answer = stays.answer().explain(
        "the connection of client 1 was ended although it was not idle for long",
        SILENT_BY_HAND,
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
    let mut clients = scene.connect_many(count)?;
    if scene.step.number() == "07" {
        for client in clients.iter_mut().rev() {
            client.send(word(scene, client));
        }
        return clients.iter().try_for_each(|client| scene.is_printed(&word(scene, client)));
    }
    for client in &mut clients[..count - 1] {
        client.send(HALF);
    }
    let by_hand = format!(
        "for i in $(seq {}); do sleep 60 | nc 127.0.0.1 8080 & done; curl -i http://127.0.0.1:8080/",
        count - 1
    );
    while let Some(mut client) = clients.pop() {
        let waiting = clients.len();
        client.send(if waiting == count - 1 { get("/") } else { OTHER_HALF.to_owned() });
        let file = scene.step.serves_files.then_some(&scene.site.index);
        client
            .answer()
            .and_then(|answer| judge_order(&answer, file, &scene.site.small_files()))
            .explain(
            &format!(
                "{waiting} clients wait in the middle of a request, and nobody is left to serve \
                     one more: a pool with too few workers, or one that serves in turn"
            ),
            &by_hand,
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
    for round in 0..3 {
        let mut clients = scene.connect_many(8)?;
        for client in &mut clients {
            client.send(word(scene, client));
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
                client.send(&word);
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
                "all clients are heard in the round in which they spoke, in the order of the list: {}; \
                 they were heard in this order: {}",
                numbers(&expected),
                numbers(&heard)
            ))
            .cause(
                "the list was changed while it was walked: when a client is removed, the next one moves \
                 to its place, and the walk goes on behind it",
            )
            .repeat("nc 127.0.0.1 8080  # in three terminals: end the first while you type in the second")
            .fail();
        }
    }
    Ok(())
}
