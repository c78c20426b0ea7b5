//! The wire: status, length, type, 404, HEAD, the end of a connection and its next request.

use std::os::linux::net::TcpStreamExt;

use super::{Outcome, a_target};
use crate::scene::{Reply, Scene, get, get_and_stay};
use crate::site::SiteFile;
use crate::story::{Explain, Fault, first_difference};
use crate::{Answer, Failure};

const CURL: &str = "curl -i http://127.0.0.1:8080";

/// The answer must be 200 and the file.
pub(super) fn judge(reply: &Reply, file: &SiteFile) -> Outcome {
    let repeat = format!("{CURL}{}", file.target);
    if reply.answer.status != 200 {
        return reply
            .fault(format!("status 200 for {}, which is there", file.target))
            .cause("the file is looked for in another place than the folder that is served")
            .repeat(repeat)
            .fail();
    }
    let Some(at) = first_difference(reply.body(), &file.bytes) else { return Ok(()) };
    let (came, wanted) = (reply.body().len(), file.bytes.len());
    let cause = match at {
        _ if at == wanted => {
            "the whole file came, and something behind it: a line end, or a byte too many"
        }
        _ if at == came => "the answer stops before the end of the file",
        _ => "the bytes of the file were changed on the way, for instance read as text",
    };
    Fault::expected(format!("the {wanted} bytes of {}; {came} came", file.target))
        .came_wrong_at(&reply.all[..], reply.head_length + at)
        .cause(cause)
        .repeat(repeat)
        .fail()
}

/// The answer must be 200 and, if it is known, the file.
pub(super) fn judge_answer(
    answer: &Answer,
    file: Option<&SiteFile>,
    others: &[&SiteFile],
) -> Outcome {
    if answer.status != 200 {
        return Fault::expected(format!("status 200, not {}", answer.status)).fail();
    }
    let Some(file) = file else { return Ok(()) };
    let Some(at) = first_difference(&answer.body, &file.bytes) else { return Ok(()) };
    let other = others.iter().find(|other| other.bytes == answer.body);
    let cause = match other {
        Some(other) => format!("this is the answer to another request: {}", other.target),
        None => "the answer was cut off, or begins with a rest of the one before".to_owned(),
    };
    Fault::expected(format!("the bytes of {}", file.target))
        .came_wrong_at(&answer.body[..], at)
        .cause(cause)
        .fail()
}

/// The answer must be 200, and not another client's. Whether each byte is right is not asked here.
pub(super) fn judge_order(
    answer: &Answer,
    file: Option<&SiteFile>,
    others: &[&SiteFile],
) -> Outcome {
    if answer.status == 200 && !others.iter().any(|other| other.bytes == answer.body) {
        return Ok(());
    }
    judge_answer(answer, file, others)
}

pub(super) fn answer_as_typed(scene: &mut Scene) -> Outcome {
    let typed = scene.site.typed_answer();
    let reply = scene.ask("/")?;
    let Some(at) = first_difference(&reply.all, &typed) else { return Ok(()) };
    Fault::expected("the answer that was piped in, byte for byte")
        .came_wrong_at(reply.all, at)
        .cause("the answer is changed on its way from the terminal to the client")
        .repeat(format!("{CURL}/"))
        .fail()
}

pub(super) fn request_is_shown(scene: &mut Scene) -> Outcome {
    scene.exchange(get(&scene.site.page.target))?;
    scene.is_printed(&scene.site.page.target)?;
    scene.is_printed("localhost")
}

pub(super) fn words_are_printed(scene: &mut Scene) -> Outcome {
    let mut clients = scene.connect_many(8)?;
    for round in ["first", "second"] {
        for client in clients.iter_mut().rev() {
            let word = format!("{round}-{}-{}", scene.site.secret_name, client.number);
            client.send(&word);
        }
        for client in &clients {
            let word = format!("{round}-{}-{}", scene.site.secret_name, client.number);
            scene.is_printed(&word).explain(
                "what this client sent was not read: its turn never comes, or a read that finds nothing \
                 is taken for the end",
                "echo word | nc -N 127.0.0.1 8080",
            )?;
        }
    }
    Ok(())
}

pub(super) fn coming_and_going(scene: &mut Scene) -> Outcome {
    let clients = scene.connect_many(8)?;
    let mut ports = Vec::new();
    for client in clients {
        let port = client.address()?.port();
        let number = client.number;
        if !scene.wait_for(|| lines_naming(&scene.server.log(), port) > 0) {
            return Fault::expected(format!(
                "a line that names client {number}, port {port}, as it comes"
            ))
            .came(scene.server.log())
            .repeat("nc -N 127.0.0.1 8080 < /dev/null")
            .fail();
        }
        ports.push((number, port, lines_naming(&scene.server.log(), port)));
        client.leave();
    }
    for (number, port, before) in ports {
        if !scene.wait_for(|| lines_naming(&scene.server.log(), port) > before) {
            return Fault::expected(format!(
                "another line that names port {port}, when client {number} has gone"
            ))
            .came(scene.server.log())
            .cause("a read of no bytes is the end of a connection, and nobody looked for it")
            .repeat("nc -N 127.0.0.1 8080 < /dev/null")
            .fail();
        }
    }
    Ok(())
}

/// How many lines have this number in them as a whole.
fn lines_naming(log: &str, port: u16) -> usize {
    let port = port.to_string();
    log.lines()
        .filter(|line| line.split(|letter: char| !letter.is_ascii_digit()).any(|word| word == port))
        .count()
}

pub(super) fn front_page(scene: &mut Scene) -> Outcome {
    let reply = scene
        .ask("/")
        .explain("no answer to the simplest request", "curl -i http://127.0.0.1:8080/")?;
    if reply.answer.status != 200 || reply.body().is_empty() {
        return reply
            .fault("status 200 and a page")
            .cause("the request line was not understood, or / is not taken for the front page")
            .repeat(format!("{CURL}/"))
            .fail();
    }
    Ok(())
}

pub(super) fn files_arrive(scene: &mut Scene) -> Outcome {
    for file in scene.site.small_files() {
        if file.target != scene.site.foreign_page.target {
            judge(&scene.ask(&file.target)?, file)?;
        }
    }
    Ok(())
}

pub(super) fn content_length(scene: &mut Scene) -> Outcome {
    let files = [&scene.site.index, &scene.site.page, &scene.site.picture];
    for file in if scene.step.serves_files { &files[..] } else { &files[..1] } {
        judge_length(&scene.ask(&file.target)?, &file.target, None)?;
    }
    judge_length(&scene.ask(&scene.site.missing)?, &scene.site.missing, None)
}

pub(super) fn content_length_in_bytes(scene: &mut Scene) -> Outcome {
    let file = &scene.site.foreign_page;
    let characters = String::from_utf8_lossy(&file.bytes).chars().count();
    let reply = scene.ask(&file.target)?;
    judge_length(&reply, &file.target, Some(characters))?;
    judge(&reply, file)
}

/// Content-Length must be there, and be the number of bytes that follow the head.
fn judge_length(reply: &Reply, target: &str, characters: Option<usize>) -> Outcome {
    let came = reply.body().len();
    let repeat = format!("curl -s -D - -o body http://127.0.0.1:8080{target}; wc -c body");
    let Some(announced) = reply.announced() else {
        return reply
            .fault(format!("a Content-Length, which is {came} here"))
            .cause("the answer does not say how long its body is")
            .repeat(repeat)
            .fail();
    };
    if announced == came {
        return Ok(());
    }
    let cause = if characters == Some(announced) {
        "the length was counted in characters; a letter such as ß has two bytes".to_owned()
    } else if announced < came {
        format!(
            "{} bytes more than announced: the client takes them for the next answer",
            came - announced
        )
    } else {
        "fewer bytes than announced: the client waits for the rest".to_owned()
    };
    Fault::expected(format!(
        "Content-Length: {came}, since so many bytes follow the head; it says {announced}"
    ))
    .came_wrong_at(&reply.all[..], reply.head_length + announced.min(came))
    .cause(cause)
    .repeat(repeat)
    .fail()
}

pub(super) fn content_type(scene: &mut Scene) -> Outcome {
    for file in scene.site.small_files() {
        let reply = scene.ask(&file.target)?;
        let given = reply.answer.field("content-type").unwrap_or("none").to_ascii_lowercase();
        if !given.starts_with(file.content_type) {
            return reply
                .fault(format!(
                    "Content-Type: {} for {}, not {given}",
                    file.content_type, file.target
                ))
                .cause("a browser shows a page as text, or a picture not at all")
                .repeat(format!("{CURL}{}", file.target))
                .fail();
        }
    }
    Ok(())
}

pub(super) fn missing(scene: &mut Scene) -> Outcome {
    let target = &scene.site.missing;
    let repeat = format!("{CURL}{target}");
    let reply =
        scene.ask(target).explain("a file that cannot be opened must be answered too", &repeat)?;
    if reply.answer.status != 404 {
        return reply
            .fault("status 404, since nothing has this name")
            .cause("the page for what is missing is sent with the status of a page that is there")
            .repeat(repeat)
            .fail();
    }
    Ok(())
}

pub(super) fn head(scene: &mut Scene) -> Outcome {
    let target = &scene.site.page.target;
    let repeat = format!("curl -I http://127.0.0.1:8080{target}");
    let length = scene.ask(target)?.announced();
    let mut client = scene.connect()?;
    client.send(format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    let answer = client.answer_to_head()?;
    if answer.status != 200 || answer.field("content-length").and_then(|n| n.parse().ok()) != length
    {
        return Fault::expected("the head that GET would have, with the same Content-Length")
            .came(client.received())
            .cause("HEAD is a method of its own")
            .repeat(repeat)
            .fail();
    }
    let head_length = client.received().len();
    client.drains(&scene.leaves_open);
    let all = client.received();
    let end = all.windows(4).position(|part| part == b"\r\n\r\n").map_or(head_length, |at| at + 4);
    if all.len() > end {
        return Fault::expected("nothing behind the empty line")
            .came_wrong_at(all, end)
            .cause("the body is sent as for GET; the client takes it for the next answer")
            .repeat(repeat)
            .fail();
    }
    Ok(())
}

pub(super) fn ends(scene: &mut Scene) -> Outcome {
    let mut client = scene.connect()?;
    client.send(get("/"));
    client.answer()?;
    if client.sees_the_end() {
        return Ok(());
    }
    scene.leaves_open.set(true);
    Fault::expected("the end of the connection behind the answer, as Connection: close asks")
        .came(client.received())
        .cause(
            "somebody still holds the socket: a parent process that did not close its copy, or a server \
             that waits for the next request",
        )
        .repeat("printf 'GET / HTTP/1.1\\r\\nHost: h\\r\\nConnection: close\\r\\n\\r\\n' | nc 127.0.0.1 8080  # must return")
        .fail()
}

const TWO_BY_HAND: &str = "curl -v http://127.0.0.1:8080/ http://127.0.0.1:8080/  # must say \"Re-using existing connection\"";

pub(super) fn two_requests(scene: &mut Scene) -> Outcome {
    let mut client = scene.connect()?;
    let files = scene.site.small_files();
    for file in &files {
        client.send(get_and_stay(&file.target));
        let answered = client.answer().and_then(|answer| judge_answer(&answer, Some(file), &files));
        answered.explain(
            "the connection ended after an answer, or an answer was longer or shorter than it said",
            TWO_BY_HAND,
        )?;
    }
    Ok(())
}

pub(super) fn pipelined(scene: &mut Scene) -> Outcome {
    let site = scene.site;
    let files = [&site.page, &site.index, &site.picture, &site.nested];
    let repeat = format!(
        "printf 'GET {} HTTP/1.1\\r\\nHost: h\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: h\\r\\nConnection: close\\r\\n\\r\\n' | nc 127.0.0.1 8080",
        site.page.target
    );
    let mut client = scene.connect()?;
    client.send(files.map(|file| get_and_stay(&file.target)).concat());
    for (number, file) in files.iter().enumerate() {
        let answer = client.answer().explain(
            &format!(
                "{number} of 4 requests that came together were answered: the rest was read along with \
                 the first and then forgotten, or the server waits for more bytes before it looks at it"
            ),
            &repeat,
        )?;
        judge_answer(&answer, Some(file), &files)
            .map_err(|failure| with_repeat(failure, &repeat))?;
    }
    Ok(())
}

fn with_repeat(failure: Failure, command: &str) -> Failure {
    match failure.downcast::<Fault>() {
        Ok(fault) => fault.repeat(command).into(),
        Err(other) => other,
    }
}

/// A client that puts off its acknowledgements. If head and body are sent apart, Nagle's algorithm holds
/// the body back until the head is acknowledged, so a read finds the head alone.
pub(super) fn one_piece(scene: &mut Scene) -> Outcome {
    let (target, _) = a_target(scene, 0);
    for _ in 0..10 {
        let mut client = scene.connect()?;
        client.stream().set_quickack(false)?;
        client.send(get_and_stay(target));
        client.read_some();
        let first_read = client.received().to_vec();
        client.answer()?;
        if first_read.ends_with(b"\r\n\r\n") && client.received().len() > first_read.len() {
            return Fault::expected("head and body in one segment, since they fit")
                .came(first_read)
                .cause(
                    "two writes: the second waits until the client has acknowledged the first, and the \
                     client waits 40 ms before it does (Nagle's algorithm against delayed acknowledgement)",
                )
                .repeat("curl -s -o - -o - -o - -w '%{time_total}\\n' http://127.0.0.1:8080/ http://127.0.0.1:8080/ http://127.0.0.1:8080/")
                .fail();
        }
    }
    Ok(())
}
