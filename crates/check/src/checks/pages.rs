//! Pages that only some exercises ask for: one counts its visits, one is slow, and one lies on a slow disk.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::Outcome;
use super::concurrency::served_at_once;
use super::judge::judge_order;
use crate::client::Client;
use crate::scene::{Scene, get, get_and_stay};
use crate::story::Symptom::Silent;
use crate::story::{Explain, Fault};
use crate::{Answer, Failure};

/// A request for the page that counts, but for its last bytes.
const ALMOST: &str = "GET /visits HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";

/// So many ask for the page at the same time.
const AT_ONCE: u64 = 16;

pub(super) fn visits(scene: &mut Scene) -> Outcome {
    scene.by_hand(
        "for i in 1 2 3; do curl -s -m 5 http://127.0.0.1:8080/visits; \
         curl -s -m 5 -o /dev/null http://127.0.0.1:8080/; done  # three numbers in a row",
    );
    let mut last = None;
    for _ in 0..4 {
        let number = number_in(&scene.ask("/visits")?.whole())?;
        // Other pages are no visits of this one.
        scene.still_serves()?;
        if last.is_some_and(|last| number != last + 1) {
            return Fault::expected(format!("visit {}, after visit {}", last.unwrap_or(0) + 1, last.unwrap_or(0)))
                .saw(format!("visit {number}"))
                .cause(
                    "the number was changed where the next client does not see it, such as in a child \
                     process's copy of the memory; or something else than visits of this page was counted",
                )
                .fail();
        }
        last = Some(number);
    }
    scene.by_hand(format!(
        "(for i in $(seq {AT_ONCE}); do (printf 'GET /visits HTTP/1.1\\r\\nHost: h\\r\\n'; sleep 2; \
         printf 'Connection: close\\r\\n\\r\\n') | nc -w 5 127.0.0.1 8080 | tail -n 1 & done; wait) \
         | sort -u | wc -l  # {AT_ONCE} different numbers"
    ));
    let mut clients = scene.connect_many(AT_ONCE as usize)?;
    for client in &mut clients {
        client.says(ALMOST);
    }
    // All of them are being served, and none has its number.
    scene.wait_until_idle(2);
    for client in &mut clients {
        client.says("\r\n");
    }
    let number = |client: &mut Client| number_in(&client.answer()?);
    let numbers: Vec<u64> = clients.iter_mut().map(number).collect::<Result<_, _>>()?;
    let first = last.unwrap_or(0) + 1;
    let (came, expected): (BTreeSet<u64>, BTreeSet<u64>) =
        (numbers.iter().copied().collect(), (first..first + AT_ONCE).collect());
    if came == expected {
        return Ok(());
    }
    Fault::expected(format!(
        "the visits {first} to {}, each once, when {AT_ONCE} clients ask at the same time",
        first + AT_ONCE - 1
    ))
    .saw(format!("these: {}", numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")))
    .cause(
        "several have read the same number before any of them had written the next one: reading, adding \
         and writing must be one piece, in which nobody else comes between",
    )
    .fail()
}

/// The first number in the body of the page that counts.
fn number_in(answer: &Answer) -> Result<u64, Failure> {
    let body = String::from_utf8_lossy(&answer.body);
    let number = body.split(|letter: char| !letter.is_ascii_digit()).find(|word| !word.is_empty());
    match number.and_then(|number| number.parse().ok()) {
        Some(number) if answer.status == 200 => Ok(number),
        _ => Fault::expected("status 200 for /visits, and a number in the page")
            .saw(format!("status {}, and this body:", answer.status))
            .came(&answer.body)
            .cause("there is no such page, or it does not say which visit this is")
            .fail(),
    }
}

/// So many are answered one after the other while the slow page is under way.
const MEANWHILE: usize = 3;

/// A machine that is busy with something else may delay them until the slow page is there.
const ATTEMPTS: usize = 10;

/// Decided by the order in which the answers come. A loop that stands still while it makes the slow page may
/// have answered one client before, but not several who came one after the other.
pub(super) fn slow_page(scene: &mut Scene) -> Outcome {
    let cause = "the loop makes the slow page itself, and nobody else is served until it is there";
    scene.by_hand(format!(
        "curl -s http://127.0.0.1:8080/slow & sleep 0.05; for i in 1 2 3; do {}; done  # the slow page comes last",
        served_at_once(scene)
    ));
    let attempt = || -> Result<bool, Failure> {
        let mut slow = scene.connect()?;
        slow.says(get("/slow"));
        for _ in 0..MEANWHILE {
            scene.still_serves().because(&[Silent], cause)?;
        }
        let is_in_order = !slow.has_something();
        let answer = slow.answer().because(
            &[Silent],
            "the slow page was made, and the loop does not know that it is there, or for whom",
        )?;
        if answer.status != 200 {
            return Fault::expected("status 200 for /slow")
                .came(slow.received())
                .cause("there is no such page, or it is lost on its way back to the loop")
                .fail();
        }
        Ok(is_in_order)
    };
    let again = format!("once more: the slow page, and {MEANWHILE} times the front page");
    let mut is_in_order = attempt()?;
    for _ in 1..ATTEMPTS {
        is_in_order = is_in_order || scene.in_one_line(&again, attempt)?;
    }
    if !is_in_order {
        return Fault::expected(format!(
            "the front page for {MEANWHILE} clients, one after the other, and then the slow page for client 1"
        ))
        .saw(format!("in {ATTEMPTS} attempts the slow page was there before the third of them was answered"))
        .cause(cause)
        .fail();
    }
    scene.by_hand(
        "printf 'GET /slow HTTP/1.1\\r\\nHost: h\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: h\\r\\nConnection: close\\r\\n\\r\\n' \
         | nc -w 5 127.0.0.1 8080  # the slow page, then the front page",
    );
    let mut client = scene.connect()?;
    client.says(get_and_stay("/slow") + &get("/"));
    let first = client.answer()?;
    let second = client.answer()?;
    let index = &scene.site.index;
    if first.body == index.bytes {
        return Fault::expected("the slow page first, since it was asked for first")
            .came(client.received())
            .cause(
                "the next request of a connection was answered while the slow page was under way",
            )
            .fail();
    }
    judge_order(&second, Some(index), &scene.site.small_files())
}

/// The file is a named pipe: who opens it waits until somebody writes, as a disk may let wait.
pub(super) fn slow_file(scene: &mut Scene) -> Outcome {
    const NAME: &str = "slow.html";
    scene.by_hand(format!(
        "mkfifo {}/site/{NAME}; curl -s -m 30 http://127.0.0.1:8080/{NAME} & sleep 1; {}",
        scene.site.again(),
        served_at_once(scene)
    ));
    let pipe = scene.root.join(NAME);
    mkfifo(&pipe, Mode::S_IRWXU)?;
    let outcome = slow_file_stops_nobody(scene, &pipe, &format!("/{NAME}"));
    // Whoever still waits in it finds that it has ended.
    drop(writer(&pipe));
    fs::remove_file(&pipe)?;
    outcome
}

/// The pipe's other end, if somebody has opened it to read. It is not waited for.
fn writer(pipe: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(pipe)
}

fn slow_file_stops_nobody(scene: &Scene, pipe: &Path, target: &str) -> Outcome {
    let mut waits = scene.connect()?;
    waits.says(get(target));
    scene.wait_until_idle(1);
    let cause = "the server waits for the file of client 1, and serves nobody else meanwhile";
    scene.still_serves().because(&[Silent], cause)?;
    scene.aside(
        "the disk is done with the file of client 1 (it is a named pipe, and is written to)",
    );
    let mut end = None;
    scene.wait_for(|| {
        end = writer(pipe).ok();
        end.is_some()
    });
    if let Some(mut end) = end {
        end.write_all(&scene.site.page.bytes)?;
    }
    let answer = waits.answer()?;
    if answer.status == 200 && answer.body == scene.site.page.bytes {
        return Ok(());
    }
    Fault::expected("status 200 for client 1, and what was written into the pipe")
        .came(waits.received())
        .cause("a file that is not there at once was given up, or not read to its end")
        .fail()
}
