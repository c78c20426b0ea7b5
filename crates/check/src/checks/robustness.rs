//! Clients that are slow, wrong or gone, and what they leave behind.

use super::evidence::stays_asleep;
use super::judge::{judge, judge_order};
use super::wire::{compare, curl};
use super::{Outcome, a_target};
use crate::processes::Process;
use crate::scene::{Scene, get};
use crate::site::NEIGHBOUR;
use crate::story::Symptom::{Ended, Silent, Status};
use crate::story::{Explain, Fault};
use crate::words::counted;

/// The next client, by hand.
const STILL_THERE: &str = "curl -i -m 5 http://127.0.0.1:8080/";

pub(super) fn pieces(scene: &mut Scene) -> Outcome {
    let (target, file) = a_target(scene, 1);
    scene.by_hand(format!(
        "(printf 'GET {target} HT'; sleep 1; printf 'TP/1.1\\r\\nHost: h\\r\\nConnection: close\\r\\n\\r\\n') \
         | nc -w 5 127.0.0.1 8080 | head -n 1  # 200"
    ));
    let request = get(target);
    // In the middle of the request line, of a field, and of the empty line.
    for cut in [6, request.len() - 25, request.len() - 2] {
        let mut client = scene.connect()?;
        client.says(&request[..cut]);
        scene.wait_until_idle(1);
        for byte in request[cut..].bytes() {
            client.says([byte]);
        }
        client
            .answer()
            .and_then(|answer| judge_order(&answer, file, &scene.site.small_files()))
            .because(
                &[Silent, Ended, Status],
                "the first read was taken for the whole request; a request ends with an empty line, in \
                 however many pieces it comes",
            )?;
    }
    Ok(())
}

pub(super) fn long(scene: &mut Scene) -> Outcome {
    let (target, file) = a_target(scene, 1);
    scene.by_hand(format!(
        "curl -s -m 5 -o /dev/null -D - -H \"X-Long: $(head -c 7000 /dev/zero | tr '\\0' a)\" http://127.0.0.1:8080{target}"
    ));
    let filler = "a".repeat(7000);
    let mut client = scene.connect()?;
    client.says(format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nX-Long: {filler}\r\nConnection: close\r\n\r\n"
    ));
    client
        .answer()
        .and_then(|answer| judge_order(&answer, file, &scene.site.small_files()))
        .because(
            &[Silent, Ended, Status],
            "the request is longer than what one read brings, and nobody reads on until the empty line \
             (or, with epoll, until the read would block)",
        )
}

const HALF: &[u8] = b"GET / HTTP/1.1\r\nHost: loc";

/// What a server may do instead of answering: nothing was asked yet, or by nobody who reads HTTP.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Answered,
    MayBeSilent,
}

pub(super) fn malformed(scene: &mut Scene) -> Outcome {
    use Refusal::{Answered, MayBeSilent};
    for (bytes, refusal) in [
        (&b"BAD\r\n\r\n"[..], Answered),
        (b"GET\r\n\r\n", Answered),
        (b"\r\n\r\n", MayBeSilent),
        (b"\x16\x03\x01\x02\x00\x01\x00\xff\xfe\r\n\r\n", MayBeSilent),
        (HALF, MayBeSilent),
    ] {
        refuses(scene, bytes, refusal, &format!("printf '{}'", bytes.escape_ascii()))?;
    }
    Ok(())
}

pub(super) fn endless(scene: &mut Scene) -> Outcome {
    let line = [b"GET /".to_vec(), b"a".repeat(100_000)].concat();
    // Who closes with bytes unread resets the connection, and the answer may be lost with it.
    refuses(
        scene,
        &line,
        Refusal::MayBeSilent,
        "(printf 'GET /'; head -c 100000 /dev/zero | tr '\\0' a)",
    )
}

/// Anything but a page is right: an error, or where that may be, the end without a word. Then the next client
/// is served.
fn refuses(scene: &Scene, bytes: &[u8], refusal: Refusal, sent_by: &str) -> Outcome {
    scene.by_hand(format!("{sent_by} | nc -N -w 5 127.0.0.1 8080; {STILL_THERE}"));
    let mut client = scene.connect()?;
    client.says(bytes);
    // A server may take a client that sends no more for one that has gone, and not answer it.
    if refusal == Refusal::Answered {
        client.reads_some();
    }
    let is_first_to_see = !scene.leaves_open.get();
    if !client.drains(&scene.leaves_open) && is_first_to_see {
        return Fault::expected("a status such as 400 and the end of the connection")
            .came(client.received())
            .saw("and the connection stays open")
            .cause(
                "the client has said that it sends nothing more. The server has not read on until it saw that \
                 end, or it keeps a connection that has ended",
            )
            .fail();
    }
    // Step 02 needs no more of a request than its first line.
    let has_request_line = bytes == HALF;
    let came = client.received();
    let is_page = came.starts_with(b"HTTP/1.1 2") || came.starts_with(b"HTTP/1.0 2");
    if is_page && !has_request_line {
        return Fault::expected("no page, since this is not a request")
            .came(came)
            .cause("what was sent is not looked at closely enough")
            .fail();
    }
    if came.is_empty() && refusal == Refusal::Answered {
        return Fault::expected("an answer such as 400, which says that this is no request")
            .saw("the end of the connection, and no answer")
            .symptom(Ended)
            .cause("a request that the server does not understand is not answered at all")
            .fail();
    }
    scene.still_serves().because(
        &[Silent],
        "the server still has to do with the client whose request was none, and serves nobody else",
    )
}

pub(super) fn dot_dot(scene: &mut Scene) -> Outcome {
    let name = &scene.site.secret_name;
    stays_inside(
        scene,
        &[
            format!("/../{name}"),
            format!("/./../{name}"),
            format!("/a/../../{name}"),
            format!("/../{NEIGHBOUR}/{name}"),
        ],
    )
}

pub(super) fn encoded_dot_dot(scene: &mut Scene) -> Outcome {
    let name = &scene.site.secret_name;
    stays_inside(
        scene,
        &[
            format!("/%2e%2e/{name}"),
            format!("/..%2f{name}"),
            format!("/%2E%2E%2F{name}"),
            format!("/.%2e/{name}"),
            format!("/%2e%2e/{NEIGHBOUR}/{name}"),
        ],
    )
}

fn stays_inside(scene: &Scene, targets: &[String]) -> Outcome {
    const EXPECTED: &str = "an answer such as 404: the file lies beside the folder that is served";
    for target in targets {
        scene.by_hand(curl(target));
        let reply = scene.ask(target).expecting(EXPECTED).because(
            &[Silent, Ended],
            "a target that leads out of the folder is not answered at all",
        )?;
        let secret = scene.site.secret.as_bytes();
        if let Some(at) = reply.all.windows(secret.len()).position(|part| part == secret) {
            return Fault::expected(EXPECTED)
                .came_wrong_at(&reply.all, at)
                .cause(if target.contains(NEIGHBOUR) {
                    "the path of the file begins with the same letters as that of the folder, and is taken \
                     for one below it; compare whole names (the folder and a /)"
                } else {
                    "the target is joined to the folder as it comes, or is looked at before it is \
                     decoded; ask where the file really is, and refuse what is not below the folder"
                })
                .fail();
        }
        if reply.answer.status == 200 {
            return reply
                .fault(EXPECTED)
                .symptom(Status)
                .cause(
                    "the file did not come, but the status says that it did: what is not there, or \
                     not allowed, is answered with 200",
                )
                .fail();
        }
    }
    Ok(())
}

pub(super) fn disappearing(scene: &mut Scene) -> Outcome {
    let file = if scene.step.serves_files { &scene.site.big.target } else { "/" };
    scene.by_hand(format!(
        "nc -N 127.0.0.1 8080 < /dev/null; printf 'GET / HT' | nc -N 127.0.0.1 8080; \
         timeout 0.1 curl -s -o /dev/null http://127.0.0.1:8080{file}; {}",
        then_served(scene)
    ));
    for number in 0..40 {
        let mut client = scene.connect()?;
        match number % 4 {
            0 => client.leave(),
            1 => {
                client.says("GET / HT");
                client.leave();
            }
            2 => {
                client.says(get(file));
                client.reset()?;
            }
            _ => {
                client.says(get(file));
                if scene.step.number() != "07" {
                    client.reads_some();
                }
                client.leave();
            }
        }
    }
    scene.still_serves().because(&[Silent], "the server still waits for a client that has gone")
}

/// Whether the next client is served, by hand.
fn then_served(scene: &Scene) -> &'static str {
    if scene.step.number() == "07" {
        "echo word | nc -N 127.0.0.1 8080  # word is printed"
    } else {
        STILL_THERE
    }
}

pub(super) fn resets(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!(
        "python3 -c 'import socket as s, struct\n\
         for i in range(1000):\n    \
         c = s.create_connection((\"127.0.0.1\", 8080))\n    \
         if i % 2 == 0: c.says(b\"GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n\")\n    \
         c.setsockopt(s.SOL_SOCKET, s.SO_LINGER, struct.pack(\"ii\", 1, 0)); c.close()'; {}",
        then_served(scene)
    ));
    for number in 0..1000 {
        let mut client = scene.connect()?;
        if number % 2 == 0 {
            client.says(get("/"));
        }
        client.reset()?;
    }
    scene.still_serves().because(&[Silent], "the server still waits for a client that has gone")
}

pub(super) fn big_file(scene: &mut Scene) -> Outcome {
    let file = &scene.site.big;
    scene.by_hand(compare(file, scene.site, "-m 60 --limit-rate 4M"));
    let mut client = scene.connect()?;
    client.shrink_receive_buffer(64 * 1024)?;
    client.says(get(&file.target));
    client.reads_some();
    scene.aside("client 1 reads nothing for a while, so that the sockets fill up");
    scene.wait_until_idle(15);
    client
        .reply(&scene.leaves_open)
        .and_then(|reply| judge(&reply, file, &scene.site.small_files()))
        .because(
            &[Silent, Ended],
            "a write takes what finds room and returns how many bytes that was; the rest was never \
             written (or the slow client was let go too early)",
        )
}

/// Asks so many times, or says a word where nothing is answered, and goes.
fn visits(scene: &Scene, count: usize) -> Outcome {
    let does = if scene.step.number() == "07" { "says a word" } else { "has its answer" };
    let text = match count {
        1 => format!("a client comes, {does} and goes"),
        _ => format!("{count} clients come one after the other; each {does} and goes"),
    };
    scene.in_one_line(&text, || {
        for _ in 0..count {
            let mut client = scene.connect()?;
            client.says(get("/"));
            if scene.step.number() != "07" {
                client.answer()?;
            }
        }
        Ok(())
    })
}

/// So many visits by hand.
fn visits_by_hand(scene: &Scene, count: usize) -> String {
    let visit = if scene.step.number() == "07" {
        "echo word | nc -N 127.0.0.1 8080"
    } else {
        "curl -s -m 5 -o /dev/null http://127.0.0.1:8080/"
    };
    format!("for i in $(seq {count}); do {visit}; done")
}

/// More descriptors than this are no accident when a hundred clients have come and gone.
const FEW_DESCRIPTORS: usize = 20;

pub(super) fn descriptors(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!(
        "ls /proc/$SERVER/fd | wc -l; {}; sleep 1; ls /proc/$SERVER/fd | wc -l  # about as many as before",
        visits_by_hand(scene, 100)
    ));
    let open = |scene: &Scene| scene.family().iter().map(Process::descriptors).sum::<usize>();
    visits(scene, 20)?;
    scene.wait_until_idle(2);
    let before = open(scene);
    scene.aside(format!("the server has {}", counted(before, "open descriptor")));
    visits(scene, 100)?;
    if scene.wait_for(|| open(scene) <= before + FEW_DESCRIPTORS) {
        return Ok(());
    }
    Fault::expected(format!("about {} again, when the 100 have gone", counted(before, "open descriptor")))
        .saw(counted(open(scene), "open descriptor"))
        .cause(
            "the sockets or files of clients that have gone are not closed: a copy is kept, or the client stays \
             in a list",
        )
        .fail()
}

fn count_zombies(scene: &Scene) -> usize {
    scene.family().iter().filter(|process| process.state == 'Z').count()
}

fn left_as_zombies(scene: &Scene, expected: &str) -> Fault {
    let zombies = counted(count_zombies(scene), "process");
    Fault::expected(expected)
        .saw(format!("{zombies} that have ended, and whose parent has not asked how"))
}

/// A server that asks for its ended children at the next client has one or two at any moment.
const FEW_ZOMBIES: usize = 2;

pub(super) fn zombies(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!(
        "{}; sleep 1; ps --ppid $SERVER -o stat= | grep -c Z  # {FEW_ZOMBIES} or fewer",
        visits_by_hand(scene, 40)
    ));
    visits(scene, 40)?;
    for _ in 0..10 {
        scene.wait_until_idle(1);
        if count_zombies(scene) <= FEW_ZOMBIES {
            return Ok(());
        }
        visits(scene, 1)?;
    }
    left_as_zombies(scene, "no zombie")
        .cause("the parent never calls wait: each ended child stays in the kernel's table of processes")
        .fail()
}

/// Nobody comes any more, and the parent must ask all the same.
pub(super) fn no_zombie_waits(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!(
        "{}; sleep 2; ps --ppid $SERVER -o stat= | grep -c Z  # 0",
        visits_by_hand(scene, 20)
    ));
    visits(scene, 20)?;
    // Before its last child has ended, the wrong parent has no zombie either.
    scene.wait_until_idle(1);
    if scene.wait_for(|| count_zombies(scene) == 0) {
        scene.by_hand(format!(
            "{}; sleep 2; top -b -d 2 -n 2 -p $SERVER | tail -n 1  # 0.0 below %CPU",
            visits_by_hand(scene, 20)
        ));
        return stays_asleep(
            scene,
            "a parent that sleeps again when it has asked for the last child",
            "what woke the parent is never taken away, such as a signal that nobody reads from its SignalFd, \
             so waiting no longer waits",
        );
    }
    left_as_zombies(scene, "no zombie soon after the last client, without a further one")
        .cause(
            "the parent asks only when the next client comes, and until then it waits in accept; SIGCHLD says \
             when a child has ended",
        )
        .fail()
}
