//! Clients that are slow, wrong or gone, and what they leave behind.

use super::wire::{judge, judge_order};
use super::{Outcome, a_target};
use crate::scene::{Scene, get};
use crate::story::{Came, Explain, Fault};

pub(super) fn pieces(scene: &mut Scene) -> Outcome {
    let (target, file) = a_target(scene, 1);
    let request = get(target);
    // In the middle of the request line, of a field, and of the empty line.
    for cut in [6, request.len() - 25, request.len() - 2] {
        let mut client = scene.connect()?;
        client.send(&request[..cut]);
        scene.wait_until_idle(1);
        for byte in request[cut..].bytes() {
            client.send([byte]);
        }
        client
            .answer()
            .and_then(|answer| judge_order(&answer, file, &scene.site.small_files()))
            .explain(
                "the first read was taken for the whole request; a request ends with an empty line, in \
                 however many pieces it comes",
                "(printf 'GET / HT'; sleep 1; printf 'TP/1.1\\r\\nHost: h\\r\\nConnection: close\\r\\n\\r\\n') | nc 127.0.0.1 8080",
            )?;
    }
    Ok(())
}

pub(super) fn long(scene: &mut Scene) -> Outcome {
    let (target, file) = a_target(scene, 1);
    let filler = "a".repeat(7000);
    let mut client = scene.connect()?;
    client.send(format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nX-Long: {filler}\r\nConnection: close\r\n\r\n"
    ));
    client
        .answer()
        .and_then(|answer| judge_order(&answer, file, &scene.site.small_files()))
        .explain(
            "the request is longer than what one read brings, and nobody reads on until the empty line \
             (or, with epoll, until the read would block)",
            "curl -i -H \"X-Long: $(head -c 7000 /dev/zero | tr '\\0' a)\" http://127.0.0.1:8080/",
        )
}

const HALF: &[u8] = b"GET / HTTP/1.1\r\nHost: loc";

pub(super) fn malformed(scene: &mut Scene) -> Outcome {
    for bytes in [
        &b"BAD\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\xff\xfe\r\n\r\n",
        HALF,
    ] {
        refuses(scene, bytes)?;
    }
    let by_hand = "printf 'BAD\\r\\n\\r\\n' | nc 127.0.0.1 8080; curl -i http://127.0.0.1:8080/";
    scene.still_serves().explain("the server has not survived a request that is none", by_hand)
}

pub(super) fn endless(scene: &mut Scene) -> Outcome {
    let line = [b"GET /".to_vec(), b"a".repeat(100_000)].concat();
    refuses(scene, &line)?;
    let by_hand = "head -c 100000 /dev/zero | tr '\\0' a | nc -N 127.0.0.1 8080; curl -i http://127.0.0.1:8080/";
    scene.still_serves().explain("the server has not survived a request line without end", by_hand)
}

/// Anything but a page is right: an error, or the end without a word.
fn refuses(scene: &Scene, bytes: &[u8]) -> Outcome {
    let mut client = scene.connect()?;
    client.send(bytes);
    let is_first_to_see = !scene.leaves_open.get();
    let repeat = format!(
        "printf '{}' | nc -N 127.0.0.1 8080",
        bytes[..bytes.len().min(60)].escape_ascii().to_string().replace('%', "%%")
    );
    if !client.drains(&scene.leaves_open) && is_first_to_see {
        return Fault::expected("a status such as 400 and the end of the connection")
            .came(client.received())
            .cause(
                "the client has said that it sends nothing more. The server has not read on until it saw that \
                 end, or it keeps a connection that has ended",
            )
            .repeat(repeat)
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
            .repeat(repeat)
            .fail();
    }
    Ok(())
}

pub(super) fn dot_dot(scene: &mut Scene) -> Outcome {
    let name = &scene.site.secret_name;
    stays_inside(
        scene,
        &[format!("/../{name}"), format!("/./../{name}"), format!("/a/../../{name}")],
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
        ],
    )
}

fn stays_inside(scene: &Scene, targets: &[String]) -> Outcome {
    for target in targets {
        let repeat = format!("curl -i --path-as-is http://127.0.0.1:8080{target}");
        let reply = scene.ask(target).explain(
            "a target that leads out of the folder needs an answer too, such as 404",
            &repeat,
        )?;
        let secret = scene.site.secret.as_bytes();
        if let Some(at) = reply.all.windows(secret.len()).position(|part| part == secret) {
            return Fault::expected("404: the file lies beside the folder that is served")
                .came_wrong_at(&reply.all[..], at)
                .cause(
                    "the target is joined to the folder as it comes, or is looked at before it is \
                     decoded; ask where the file really is, and refuse what is not below the folder",
                )
                .repeat(repeat)
                .fail();
        }
        if reply.answer.status == 200 {
            return reply
                .fault("404 for a target that leads out of the folder")
                .repeat(repeat)
                .fail();
        }
    }
    Ok(())
}

pub(super) fn disappearing(scene: &mut Scene) -> Outcome {
    let file = if scene.step.serves_files { &scene.site.big.target } else { "/" };
    for number in 0..40 {
        let mut client = scene.connect()?;
        match number % 4 {
            0 => client.leave(),
            1 => {
                client.send("GET / HT");
                client.leave();
            }
            2 => {
                client.send(get(file));
                client.reset()?;
            }
            _ => {
                client.send(get(file));
                if scene.step.number() != "07" {
                    client.read_some();
                }
                client.leave();
            }
        }
    }
    scene.still_serves().explain(
        "the error of one connection ended the server, or it still waits for a client that has gone",
        "timeout 0.1 curl -s http://127.0.0.1:8080/ > /dev/null; curl -i http://127.0.0.1:8080/",
    )
}

pub(super) fn resets(scene: &mut Scene) -> Outcome {
    for number in 0..1000 {
        let mut client = scene.connect()?;
        if number % 2 == 0 {
            client.send(get("/"));
        }
        client.reset()?;
    }
    scene.still_serves().explain("the error of one connection ended the server", "")
}

pub(super) fn big_file(scene: &mut Scene) -> Outcome {
    let file = &scene.site.big;
    let mut client = scene.connect()?;
    client.shrink_receive_buffer(64 * 1024)?;
    client.send(get(&file.target));
    client.read_some();
    scene.aside("client 1 reads nothing for a while, so that the sockets fill up");
    scene.wait_until_idle(15);
    let repeat =
        format!("curl --limit-rate 2M -o big http://127.0.0.1:8080{}; wc -c big", file.target);
    let cause = "a write takes what finds room and returns how many bytes that was; the rest was \
                 never written (or the slow client was let go too early)";
    let reply =
        client.reply(&scene.leaves_open).map_err(|failure| brief(failure, cause, &repeat))?;
    judge(&reply, file).map_err(|failure| brief(failure, cause, &repeat))
}

/// A fault that keeps only what is near the wrong byte of sixteen million.
fn brief(failure: crate::Failure, cause: &str, repeat: &str) -> crate::Failure {
    match failure.downcast::<Fault>() {
        Ok(mut fault) => {
            if let Some(Came { bytes, wrong_at: None }) = &mut fault.came {
                bytes.truncate(200);
            }
            fault.cause(cause).repeat(repeat).into()
        }
        Err(other) => other,
    }
}

/// Asks so many times, or says a word where nothing is answered, and goes.
fn visits(scene: &Scene, count: usize) -> Outcome {
    for _ in 0..count {
        let mut client = scene.connect()?;
        client.send(get("/"));
        if scene.step.number() != "07" {
            client.answer()?;
        }
    }
    Ok(())
}

/// More descriptors than this are no accident when a hundred clients have come and gone.
const FEW_DESCRIPTORS: usize = 20;

pub(super) fn descriptors(scene: &mut Scene) -> Outcome {
    let open =
        |scene: &Scene| scene.family().iter().map(|process| process.descriptors()).sum::<usize>();
    visits(scene, 20)?;
    scene.wait_until_idle(2);
    let before = open(scene);
    visits(scene, 100)?;
    if scene.wait_for(|| open(scene) <= before + FEW_DESCRIPTORS) {
        return Ok(());
    }
    Fault::expected(format!(
        "about {before} open descriptors, as before; after 100 clients that have gone there are {}",
        open(scene)
    ))
    .cause(
        "the sockets or files of clients that have gone are not closed: a copy is kept, or the client stays \
         in a list",
    )
    .repeat("for i in $(seq 100); do curl -s -o /dev/null http://127.0.0.1:8080/; done; ls /proc/$SERVER/fd | wc -l")
    .fail()
}

/// A server that asks for its ended children at the next client has one or two at any moment.
const FEW_ZOMBIES: usize = 2;

pub(super) fn zombies(scene: &mut Scene) -> Outcome {
    let zombies =
        |scene: &Scene| scene.family().iter().filter(|process| process.state == 'Z').count();
    visits(scene, 40)?;
    for _ in 0..10 {
        scene.wait_until_idle(1);
        if zombies(scene) <= FEW_ZOMBIES {
            return Ok(());
        }
        visits(scene, 1)?;
    }
    Fault::expected(format!(
        "no zombie; {} children have ended, and their parent has not asked how",
        zombies(scene)
    ))
    .cause("the parent never calls wait: each ended child stays in the kernel's table of processes")
    .repeat(
        "for i in $(seq 40); do curl -s -o /dev/null http://127.0.0.1:8080/; done; ps --ppid $SERVER",
    )
    .fail()
}
