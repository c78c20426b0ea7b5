//! What /proc says about the server's processes: the evidence of its model.

use std::collections::HashMap;
use std::num::NonZero;
use std::thread;
use std::time::Duration;

use super::Outcome;
use super::concurrency::{served_at_once, waiting_by_hand};
use super::model::{Model, all_threads, held, until_asleep, watch};
use crate::processes::Process;
use crate::scene::{Scene, get_and_stay};
use crate::story::{Explain, Fault, Symptom};
use crate::words::counted;

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

/// So many clients tell a thread for each from a few for all.
const FEW: usize = 8;

pub(super) fn processes(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!(
        "{}; ps --ppid $SERVER --no-headers | wc -l  # {FEW} or more",
        held_by_hand(FEW)
    ));
    let (found, _clients) = watch(scene, FEW)?;
    match found.model {
        Model::Own(FEW) => scene.has_counted(found.words),
        Model::Mixed => scene.cannot_tell(&found.words),
        _ => Fault::expected(format!(
            "a process for each of {FEW} clients, which serves nobody else"
        ))
        .saw(found.words)
        .cause("the clients are not served by processes of their own")
        .fail(),
    }
}

pub(super) fn threads(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!("{}; ls /proc/$SERVER/task | wc -l  # {FEW} or more", held_by_hand(FEW)));
    let (found, _clients) = watch(scene, FEW)?;
    let cause = match found.model {
        Model::Own(1) => return scene.has_counted(found.words),
        Model::Mixed => return scene.cannot_tell(&found.words),
        Model::Own(_) => "the clients are served by processes, and not by threads of one process",
        Model::Shared(1) => {
            "one thread serves all, as an event loop does; the others belong to the language's runtime"
        }
        Model::Shared(_) | Model::Deaf => {
            "there are too few threads, and clients share one, or wait for one"
        }
    };
    Fault::expected(format!("a thread for each of {FEW} clients, in one process"))
        .saw(found.words)
        .cause(cause)
        .fail()
}

pub(super) fn coroutines(scene: &mut Scene) -> Outcome {
    cost_no_threads(scene, 8, 64)
}

pub(super) fn no_thread_each(scene: &mut Scene) -> Outcome {
    cost_no_threads(scene, 1, 64)
}

/// Counts with no client, with the first, who make the runtime start what threads it has, and with many more.
fn cost_no_threads(scene: &Scene, first: usize, more: usize) -> Outcome {
    scene.by_hand(served_at_once(scene));
    scene.wait_until_idle(1);
    let with_none = all_threads(scene);
    let _first = held(scene, first)?;
    others_are_served(scene, first)?;
    let with_first = all_threads(scene);
    let _more = held(scene, more)?;
    others_are_served(scene, first + more)?;
    scene.by_hand(format!(
        "{COUNT_THREADS}; {}; {COUNT_THREADS}; {}; {COUNT_THREADS}  # about as many as before",
        held_by_hand(first),
        held_by_hand(more)
    ));
    let with_all = all_threads(scene);
    let words = format!(
        "with no client {}, with {first} {with_first}, with {} {with_all}",
        counted(with_none, "thread"),
        first + more
    );
    // A runtime may start one for each processor, when it first has work for them.
    let spare = 16 + thread::available_parallelism().map_or(1, NonZero::get);
    if with_all < with_first + spare.min(more) {
        return scene.has_counted(words);
    }
    Fault::expected(format!("about as many threads for {more} clients more"))
        .saw(words)
        .cause("each client costs a thread or a process, and not only a little memory")
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

/// So many clients do not come to the same one of two threads by chance.
const MANY_TURNS: usize = 16;

pub(super) fn one_thread(scene: &mut Scene) -> Outcome {
    scene.by_hand(served_at_once(scene));
    scene.still_serves()?;
    scene.wait_until_idle(1);
    if all_threads(scene) == 1 {
        let _clients = held(scene, MANY_TURNS)?;
        others_are_served(scene, MANY_TURNS)?;
        if all_threads(scene) == 1 {
            return scene.has_counted(format!("one thread, with no client and with {MANY_TURNS}"));
        }
    }
    let (found, _clients) = watch(scene, MANY_TURNS)?;
    others_are_served(scene, MANY_TURNS)?;
    scene.by_hand(format!(
        "{COUNT_THREADS}; {}; {COUNT_THREADS}  # as many as before",
        held_by_hand(MANY_TURNS)
    ));
    let cause = match found.model {
        Model::Shared(1) => return scene.has_counted(found.words),
        Model::Mixed | Model::Deaf => return scene.cannot_tell(&found.words),
        Model::Own(_) => "clients get threads or processes of their own",
        Model::Shared(_) => "the clients are shared out among several threads or processes",
    };
    Fault::expected(format!("one thread that serves all of {MANY_TURNS} clients"))
        .saw(found.words)
        .cause(cause)
        .fail()
}

/// How often each thread of the server has gone to sleep.
fn sleeps(scene: &Scene) -> HashMap<u32, u64> {
    scene.family().iter().flat_map(Process::sleeps).collect()
}

/// The threads that were awake in between, and slept again so many times at least.
fn woken(before: &HashMap<u32, u64>, after: &HashMap<u32, u64>, times: u64) -> usize {
    let count = |thread: &u32| before.get(thread).copied().unwrap_or(0);
    after.iter().filter(|(thread, slept)| slept.saturating_sub(count(thread)) >= times).count()
}

/// Shows how often each thread has gone to sleep.
const SHOW_SLEEPS: &str = "grep -h ^voluntary /proc/$SERVER/task/*/status";

/// So many clients that which of two loops each comes to is not decided by chance for all of them.
const MANY: u64 = 64;

pub(super) fn spread(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!(
        "{SHOW_SLEEPS}; for i in $(seq {MANY}); do curl -s -o /dev/null -m 5 http://127.0.0.1:8080/; done; \
         {SHOW_SLEEPS}  # two lines or more have grown"
    ));
    scene.still_serves()?;
    // With one core there is one loop, and that is right.
    let expected = thread::available_parallelism().map_or(1, |cores| cores.get().min(2));
    let before = sleeps(scene);
    scene.in_one_line(
        &format!(
            "{MANY} clients ask for the front page, one after another, each when the server sleeps"
        ),
        // With EPOLLEXCLUSIVE a client comes to another worker only if the first one is still awake, as it
        // often is on a busy machine.
        || {
            (0..MANY).try_for_each(|_| {
                until_asleep(&scene.family());
                scene.still_serves()
            })
        },
    )?;
    // Each of them has served at least a few: a thread that was only started does not count.
    let is_spread = || woken(&before, &sleeps(scene), MANY / 16) >= expected;
    if scene.wait_for(is_spread) {
        return Ok(());
    }
    Fault::expected(format!(
        "{} or more at work while {MANY} clients are served",
        counted(expected, "thread")
    ))
    .saw(counted(woken(&before, &sleeps(scene), MANY / 16), "thread"))
    .cause("one loop serves all, or the kernel wakes the same one each time; the other cores have nothing to do")
    .fail()
}

pub(super) fn one_wakes(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!(
        "sleep 2; {SHOW_SLEEPS}; nc -N 127.0.0.1 8080 < /dev/null; sleep 1; {SHOW_SLEEPS}  # one line has grown, or two"
    ));
    let mut fewest = usize::MAX;
    // A thread that wakes by the clock is counted too, so the least of some tries is what says how it is.
    for _ in 0..5 {
        scene.wait_until_idle(1);
        let before = sleeps(scene);
        let client = scene.connect()?;
        scene.wait_until_idle(2);
        fewest = fewest.min(woken(&before, &sleeps(scene), 1));
        client.leave();
        scene.still_serves()?;
    }
    // One accepts; and it may hand the client to another.
    if fewest <= 2 {
        return Ok(());
    }
    Fault::expected("one thread that wakes for a client, or two if one accepts and another serves")
        .saw(format!("{} at the least, each time one client connects", counted(fewest, "thread")))
        .cause(
            "all workers wait for the same listening socket, the kernel wakes them all, and all but one wake \
             for nothing",
        )
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
        client.says(get_and_stay("/"));
        client.answer()?;
    }
    scene.aside("a second passes in which nothing happens");
    stays_asleep(
        scene,
        "a server that sleeps while 8 clients say nothing",
        "the server asks its clients again and again instead of waiting to be woken",
    )
}

/// Whether the server sleeps for most of a second.
pub(super) fn stays_asleep(scene: &Scene, expected: &str, cause: &str) -> Outcome {
    let mut busy = 0;
    for _ in 0..LOOKS {
        thread::park_timeout(Duration::from_millis(50));
        busy += usize::from(scene.family().iter().any(Process::has_work));
    }
    if busy < LOOKS / 3 {
        return Ok(());
    }
    Fault::expected(expected)
        .saw(format!(
            "{busy} of {LOOKS} looks, spread over a second, found it running or waiting for a processor"
        ))
        .cause(cause)
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
        client.says("TP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
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
