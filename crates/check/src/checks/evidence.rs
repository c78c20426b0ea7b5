//! What /proc says about the server's processes: the evidence of its model.

use std::thread;
use std::time::Duration;

use super::Outcome;
use super::concurrency::{served_at_once, waiting_by_hand};
use crate::processes::Process;
use crate::scene::{RecordedClient, Scene, get_and_stay};
use crate::story::{Explain, Fault, Symptom, counted};

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

/// So many clients who say nothing for half a minute, and time for the server to accept them.
fn held_by_hand(count: usize) -> String {
    format!(
        "(for i in $(seq {count}); do sleep 30 | nc -N 127.0.0.1 8080 > /dev/null & done); sleep 2"
    )
}

/// Counts the threads of the server and of its children.
const COUNT_THREADS: &str = "ps -L -p $SERVER --ppid $SERVER --no-headers | wc -l";

pub(super) fn processes(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!(
        "{}; ps --ppid $SERVER --no-headers | wc -l  # 8 or more",
        held_by_hand(8)
    ));
    scene.wait_until_idle(1);
    let before = processes_alive(scene);
    let _clients = held(scene, 8)?;
    if scene.wait_for(|| processes_alive(scene) >= before + 8) {
        return Ok(());
    }
    Fault::expected(format!(
        "{}, 8 more than before, while 8 clients are in the middle of a request",
        counted(before + 8, "process")
    ))
    .saw(counted(processes_alive(scene), "process"))
    .cause("the clients are not served by processes of their own")
    .fail()
}

pub(super) fn threads(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!("{}; ls /proc/$SERVER/task | wc -l  # 9 or more", held_by_hand(8)));
    scene.wait_until_idle(1);
    let before = processes_alive(scene);
    let _clients = held(scene, 8)?;
    let enough = scene.wait_for(|| most_threads(scene) > 8);
    let processes = processes_alive(scene);
    if enough && processes < before + 8 {
        return Ok(());
    }
    Fault::expected(
        "9 threads or more in one process, while 8 clients are in the middle of a request",
    )
    .saw(format!(
        "{} in all, and at most {} in one of them",
        counted(processes, "process"),
        counted(most_threads(scene), "thread")
    ))
    .cause("not every client gets a thread of its own in the one process")
    .fail()
}

pub(super) fn coroutines(scene: &mut Scene) -> Outcome {
    scene.by_hand(served_at_once(scene));
    // The first ones make the runtime start what threads it has.
    let _first = held(scene, 8)?;
    others_are_served(scene, 8)?;
    let before = all_threads(scene);
    let _clients = held(scene, 64)?;
    others_are_served(scene, 72)?;
    scene.by_hand(format!(
        "{}; {COUNT_THREADS}; {}; {COUNT_THREADS}  # about as many as before",
        held_by_hand(8),
        held_by_hand(64)
    ));
    let now = all_threads(scene);
    if now < before + 16 {
        return Ok(());
    }
    Fault::expected(format!("about {} for 64 more clients too", counted(before, "thread")))
        .saw(counted(now, "thread"))
        .cause("each client costs a thread or a process, not a coroutine")
        .fail()
}

/// So many clients are in the middle of a request, and the next is served.
fn others_are_served(scene: &Scene, count: usize) -> Outcome {
    scene.by_hand(waiting_by_hand(scene, count, "printf 'GET / HT'; "));
    scene.still_serves().because(
        &[Symptom::Silent],
        "clients in the middle of a request keep the server from serving another",
    )
}

pub(super) fn one_thread(scene: &mut Scene) -> Outcome {
    scene.by_hand(served_at_once(scene));
    scene.still_serves()?;
    let before = all_threads(scene);
    let _clients = held(scene, 16)?;
    others_are_served(scene, 16)?;
    scene.by_hand(format!(
        "{COUNT_THREADS}; {}; {COUNT_THREADS}  # as many as before",
        held_by_hand(16)
    ));
    let now = all_threads(scene);
    if now <= before {
        return Ok(());
    }
    Fault::expected(format!("{} for 16 clients, as for none", counted(before, "thread")))
        .saw(counted(now, "thread"))
        .cause("clients get threads or processes of their own")
        .fail()
}

/// A look each twentieth of a second. On a busy machine a server that always wants to run gets little
/// processor time, but each look finds it in the queue for some.
const LOOKS: usize = 20;

pub(super) fn idle(scene: &mut Scene) -> Outcome {
    scene.by_hand(
        "(printf 'GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n'; sleep 9) | nc -N 127.0.0.1 8080 > /dev/null & \
         sleep 2; top -b -d 2 -n 2 -p $SERVER | tail -n 1  # 0.0 below %CPU",
    );
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
    Fault::expected("a server that sleeps while 8 clients say nothing")
        .saw(format!(
            "{busy} of {LOOKS} looks, spread over a second, found it running or waiting for a processor"
        ))
        .cause("the server asks its clients again and again instead of waiting to be woken")
        .fail()
}

/// A pool may be generous, and three hundred clients are more than anybody has threads prepared for.
const THREAD_LIMIT: usize = 200;

pub(super) fn thread_limit(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!(
        "{}; ls /proc/$SERVER/task | wc -l  # {THREAD_LIMIT} or fewer",
        held_by_hand(300)
    ));
    let mut clients = held(scene, 300)?;
    scene.wait_until_idle(3);
    let threads = most_threads(scene);
    if threads > THREAD_LIMIT {
        return Fault::expected(format!(
            "no more than {THREAD_LIMIT} threads, however many clients come"
        ))
        .saw(format!("{threads} threads with 300 clients"))
        .cause("every client gets a thread, and a system has only so many")
        .fail();
    }
    scene.by_hand(
        "(for i in $(seq 300); do (printf 'GET / HT'; sleep 5; \
         printf 'TP/1.1\\r\\nHost: h\\r\\nConnection: close\\r\\n\\r\\n') | nc 127.0.0.1 8080 | head -n 1 & \
         done; wait) | sort | uniq -c  # 300 times 200",
    );
    for client in &mut clients {
        client.send("TP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    }
    for mut client in clients {
        let sent_away = "who finds no free thread is sent away instead of waiting in a queue";
        let answer = client.answer().because(&[Symptom::Ended], sent_away)?;
        if answer.status != 200 {
            return Fault::expected("status 200 for everybody, if need be after a while")
                .came(client.received())
                .cause(sent_away)
                .fail();
        }
    }
    Ok(())
}
