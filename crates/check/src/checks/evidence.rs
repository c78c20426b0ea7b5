//! What /proc says about the server's processes: the evidence of its model.

use std::thread;
use std::time::Duration;

use super::Outcome;
use crate::processes::Process;
use crate::scene::{RecordedClient, Scene, get_and_stay};
use crate::story::Fault;

/// Clients in the middle of a request (or of a word).
fn held(scene: &Scene, count: usize) -> Result<Vec<RecordedClient>, crate::Failure> {
    let mut clients = scene.connect_many(count)?;
    for client in &mut clients {
        client.send("GET / HT");
    }
    Ok(clients)
}

fn processes_alive(scene: &Scene) -> usize {
    scene.family().iter().filter(|process| process.state != 'Z').count()
}

fn all_threads(scene: &Scene) -> usize {
    scene.family().iter().map(|process| process.threads()).sum()
}

fn most_threads(scene: &Scene) -> usize {
    scene.family().iter().map(|process| process.threads()).max().unwrap_or(0)
}

pub(super) fn processes(scene: &mut Scene) -> Outcome {
    scene.wait_until_idle(1);
    let before = processes_alive(scene);
    let _clients = held(scene, 8)?;
    if scene.wait_for(|| processes_alive(scene) >= before + 8) {
        return Ok(());
    }
    Fault::expected(format!(
        "8 more processes while 8 clients are in the middle of a request; there were {before}, now {}",
        processes_alive(scene)
    ))
    .cause("the clients are not served by processes of their own")
    .repeat("for i in 1 2 3; do sleep 60 | nc 127.0.0.1 8080 & done; ps --ppid $SERVER")
    .fail()
}

pub(super) fn threads(scene: &mut Scene) -> Outcome {
    scene.wait_until_idle(1);
    let before = processes_alive(scene);
    let _clients = held(scene, 8)?;
    let enough = scene.wait_for(|| most_threads(scene) > 8);
    let processes = processes_alive(scene);
    if enough && processes < before + 8 {
        return Ok(());
    }
    Fault::expected(format!(
        "9 threads or more in one process while 8 clients are in the middle of a request; there are {} in \
         one process, and {processes} processes",
        most_threads(scene)
    ))
    .cause("the clients are not served by threads of one process")
    .repeat("for i in 1 2 3; do sleep 60 | nc 127.0.0.1 8080 & done; ls /proc/$SERVER/task")
    .fail()
}

pub(super) fn coroutines(scene: &mut Scene) -> Outcome {
    // The first ones make the runtime start what threads it has.
    let _first = held(scene, 8)?;
    scene.still_serves()?;
    let before = all_threads(scene);
    let _clients = held(scene, 64)?;
    scene.still_serves()?;
    let now = all_threads(scene);
    if now < before + 16 {
        return Ok(());
    }
    Fault::expected(format!("about {before} threads for 64 more clients too; there are {now}"))
        .cause("each client costs a thread or a process, not a coroutine")
        .repeat("for i in 1 2 3; do sleep 60 | nc 127.0.0.1 8080 & done; ls /proc/$SERVER/task")
        .fail()
}

pub(super) fn one_thread(scene: &mut Scene) -> Outcome {
    scene.still_serves()?;
    let before = all_threads(scene);
    let _clients = held(scene, 16)?;
    scene.still_serves()?;
    let now = all_threads(scene);
    if now <= before {
        return Ok(());
    }
    Fault::expected(format!("{before} threads for 16 clients, as for none; there are {now}"))
        .cause("clients get threads or processes of their own")
        .repeat("for i in 1 2 3; do sleep 60 | nc 127.0.0.1 8080 & done; ls /proc/$SERVER/task")
        .fail()
}

/// A look each twentieth of a second. On a busy machine a server that always wants to run gets little
/// processor time, but each look finds it in the queue for some.
const LOOKS: usize = 20;

pub(super) fn idle(scene: &mut Scene) -> Outcome {
    let mut clients = scene.connect_many(8)?;
    for client in &mut clients {
        client.send(get_and_stay("/"));
        client.answer()?;
    }
    scene.aside("a second passes in which nothing happens");
    let mut busy = 0;
    for _ in 0..LOOKS {
        thread::park_timeout(Duration::from_millis(50));
        busy += usize::from(scene.family().iter().any(Process::has_work));
    }
    if busy < LOOKS / 3 {
        return Ok(());
    }
    Fault::expected(format!(
        "a server that sleeps while 8 clients say nothing; {busy} of {LOOKS} looks, spread over a second, \
         found it running or waiting for a processor"
    ))
    .cause("the server asks its clients again and again instead of waiting to be woken")
    .repeat("sleep 60 | nc 127.0.0.1 8080 & top -p $SERVER")
    .fail()
}

/// A pool may be generous, and three hundred clients are more than anybody has threads prepared for.
const THREAD_LIMIT: usize = 200;

const BY_HAND: &str =
    "for i in $(seq 300); do sleep 60 | nc 127.0.0.1 8080 & done; ls /proc/$SERVER/task | wc -l";

pub(super) fn thread_limit(scene: &mut Scene) -> Outcome {
    let mut clients = held(scene, 300)?;
    scene.wait_until_idle(3);
    let threads = most_threads(scene);
    if threads > THREAD_LIMIT {
        return Fault::expected(format!(
            "no more than {THREAD_LIMIT} threads, however many clients come; with 300 clients there are {threads}"
        ))
        .cause("every client gets a thread; the one that cannot be made any more ends the server")
        .repeat(BY_HAND)
        .fail();
    }
    for client in &mut clients {
        client.send("TP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    }
    for mut client in clients {
        let answer = client.answer()?;
        if answer.status != 200 {
            return Fault::expected("status 200 for everybody, if need be after a while")
                .came(client.received())
                .cause("who finds no free thread is sent away instead of waiting in a queue")
                .repeat(BY_HAND)
                .fail();
        }
    }
    Ok(())
}
