//! The wire: status, length, type, 404, HEAD, the end of a connection and its next request.

use std::os::linux::net::TcpStreamExt;

use super::judge::{judge, judge_answer};
use super::{Outcome, a_target};
use crate::Failure;
use crate::answer::Reply;
use crate::scene::{Scene, get, get_and_stay};
use crate::site::{Site, SiteFile};
use crate::story::Symptom::{Ended, Silent, Status};
use crate::story::{Explain, Fault};
use crate::words::{counted, first_difference};

/// A request for a target, as the shell's printf takes it.
pub(super) fn printf(method: &str, target: &str) -> String {
    let target = target.replace('%', "%%");
    format!("printf '{method} {target} HTTP/1.1\\r\\nHost: h\\r\\nConnection: close\\r\\n\\r\\n'")
}

/// Shows the head and the body of an answer.
pub(super) fn curl(target: &str) -> String {
    format!("curl -i -m 5 --path-as-is http://127.0.0.1:8080{target}")
}

/// Compares all that follows the head with the file, whatever Content-Length says.
pub(super) fn compare(file: &SiteFile, site: &Site, options: &str) -> String {
    format!(
        "curl -s {options} --ignore-content-length -H 'Connection: close' http://127.0.0.1:8080{} \
         | cmp - {}/site/{}  # says nothing when they are the same",
        file.target,
        site.again(),
        file.path()
    )
}

pub(super) fn answer_as_typed(scene: &mut Scene) -> Outcome {
    scene.by_hand(curl("/"));
    let typed = scene.site.typed_answer();
    let reply = scene.ask("/")?;
    let Some(at) = first_difference(&reply.all, &typed) else { return Ok(()) };
    Fault::expected("the answer that was piped in, byte for byte")
        .came_wrong_at(reply.all, at)
        .cause("the answer is changed on its way from the terminal to the client")
        .fail()
}

pub(super) fn request_is_shown(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!("{}  # the server prints this request", curl(&scene.site.page.target)));
    scene.exchange(get(&scene.site.page.target))?;
    scene.is_printed(&scene.site.page.target)?;
    scene.is_printed("localhost")
}

pub(super) fn words_are_printed(scene: &mut Scene) -> Outcome {
    scene.by_hand(
        "(sleep 1; echo first; sleep 2; echo third) | nc -N 127.0.0.1 8080 & \
         (sleep 2; echo second; sleep 2; echo fourth) | nc -N 127.0.0.1 8080  # all four are printed",
    );
    let mut clients = scene.connect_many(8)?;
    for round in ["first", "second"] {
        for client in clients.iter_mut().rev() {
            let word = format!("{round}-{}-{}", scene.site.secret_name, client.number);
            client.says(&word);
        }
        for client in &clients {
            let word = format!("{round}-{}-{}", scene.site.secret_name, client.number);
            scene.is_printed(&word).because(
                &[Silent],
                "what this client sent was not read: its turn never comes, or a read that finds nothing \
                 is taken for the end (or the output is kept in a buffer)",
            )?;
        }
    }
    Ok(())
}

pub(super) fn coming_and_going(scene: &mut Scene) -> Outcome {
    scene.by_hand("nc -N 127.0.0.1 8080 < /dev/null  # a line when it comes, another when it goes");
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
            .cause("the client is not accepted, or nothing is printed when one comes")
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
    scene.by_hand(curl("/"));
    let reply = scene.ask("/")?;
    if reply.answer.status != 200 || reply.body().is_empty() {
        return reply
            .fault("status 200 and a page")
            .cause("the request line was not understood, or / is not taken for the front page")
            .fail();
    }
    Ok(())
}

pub(super) fn files_arrive(scene: &mut Scene) -> Outcome {
    let files = scene.site.small_files();
    for file in files {
        if file.target != scene.site.foreign_page.target {
            scene.by_hand(compare(file, scene.site, "-m 5"));
            judge(&scene.ask(&file.target)?, file, &files)?;
        }
    }
    Ok(())
}

/// A letter of a name may be sent as `%` and two digits, RFC 3986 section 2.3.
pub(super) fn percent_encoded(scene: &mut Scene) -> Outcome {
    let page = &scene.site.page;
    let target = format!("/%{:02x}{}", page.target.as_bytes()[1], &page.target[2..]);
    scene.by_hand(curl(&target));
    let plain = scene.ask(&page.target)?;
    let encoded = scene.ask(&target)?;
    if encoded.answer.status == plain.answer.status && encoded.body() == plain.body() {
        return Ok(());
    }
    encoded
        .fault(format!("what comes for {}, which is the same target", page.target))
        .cause(
            "a target is percent-encoded: %61 stands for a, and %20 for a space; decode it before you look \
             for the file",
        )
        .fail()
}

pub(super) fn content_length(scene: &mut Scene) -> Outcome {
    let files = [&scene.site.index, &scene.site.page, &scene.site.picture];
    for file in if scene.step.serves_files { &files[..] } else { &files[..1] } {
        length_fits(scene, &file.target, None)?;
    }
    length_fits(scene, &scene.site.missing, None)?;
    Ok(())
}

pub(super) fn content_length_in_bytes(scene: &mut Scene) -> Outcome {
    let file = &scene.site.foreign_page;
    let characters = String::from_utf8_lossy(&file.bytes).chars().count();
    let reply = length_fits(scene, &file.target, Some(characters))?;
    scene.by_hand(compare(file, scene.site, "-m 5"));
    let outcome = judge(&reply, file, &scene.site.small_files());
    if reply.body().len() == characters {
        let cause = "the body ends after as many bytes as the page has characters; a letter such as \
                     ß has two bytes";
        return outcome.because(&[Ended], cause);
    }
    outcome
}

/// Content-Length must be there, and be the number of bytes that follow the head.
fn length_fits(scene: &Scene, target: &str, characters: Option<usize>) -> Result<Reply, Failure> {
    scene.by_hand(format!(
        "curl -s -m 5 -D - -o /dev/null --ignore-content-length -H 'Connection: close' \
         -w '%{{size_download}} bytes came\\n' http://127.0.0.1:8080{target}"
    ));
    let reply = scene.ask(target)?;
    let came = reply.body().len();
    let Some(announced) = reply.announced() else {
        return reply
            .fault(format!("a Content-Length, which is {came} here"))
            .cause("the answer does not say how long its body is")
            .fail();
    };
    if announced == came {
        return Ok(reply);
    }
    let cause = if characters == Some(announced) {
        "the length was counted in characters; a letter such as ß has two bytes".to_owned()
    } else if announced < came {
        format!(
            "{} more than announced: what stops at the length, as curl does, never sees the end; on \
             a connection that stays it is taken for the next answer",
            counted(came - announced, "byte")
        )
    } else {
        format!(
            "{} fewer than announced: the client waits for the rest",
            counted(announced - came, "byte")
        )
    };
    Fault::expected("as many bytes behind the head as Content-Length says")
        .saw(format!("Content-Length: {announced}, and {}", counted(came, "byte")))
        .came_wrong_at(&reply.all, reply.head_length + announced.min(came))
        .cause(cause)
        .fail()
}

pub(super) fn content_type(scene: &mut Scene) -> Outcome {
    for file in scene.site.small_files() {
        scene.by_hand(format!(
            "curl -s -m 5 -o /dev/null -D - http://127.0.0.1:8080{}",
            file.target
        ));
        let reply = scene.ask(&file.target)?;
        let given = reply.answer.field("content-type").unwrap_or("none").to_ascii_lowercase();
        if !given.starts_with(file.content_type) {
            return reply
                .fault(format!(
                    "Content-Type: {} for {}, not {given}",
                    file.content_type, file.target
                ))
                .cause(
                    "the type is not chosen by the ending of the file's name, or this ending is not known",
                )
                .fail();
        }
    }
    Ok(())
}

pub(super) fn missing(scene: &mut Scene) -> Outcome {
    let target = &scene.site.missing;
    scene.by_hand(curl(target));
    let reply = scene
        .ask(target)
        .expecting("status 404, since nothing has this name")
        .because(&[Ended, Silent], "a file that cannot be opened is not answered at all")?;
    if reply.answer.status != 404 {
        return reply
            .fault("status 404, since nothing has this name")
            .symptom(Status)
            .cause(match reply.answer.status {
                200..300 => {
                    "what is missing is answered with the status of what is there; a page that says \
                     \"not found\" is not enough"
                }
                _ => "that a file cannot be opened is taken for another error than \"it is not there\"",
            })
            .fail();
    }
    Ok(())
}

pub(super) fn head(scene: &mut Scene) -> Outcome {
    let target = &scene.site.page.target;
    scene.by_hand(format!(
        "{} | nc -w 5 127.0.0.1 8080 | cat -A  # ends with an empty line: ^M$",
        printf("HEAD", target)
    ));
    let of_get = scene.ask(target)?;
    let mut client = scene.connect()?;
    client.says(format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    let answer = client.answer_to_head()?;
    if answer.status != 200 {
        return Fault::expected("status 200, as for GET")
            .came(client.received())
            .symptom(Status)
            .cause("HEAD is a method too; the server knows only GET")
            .fail();
    }
    let length = answer.field("content-length").and_then(|length| length.parse().ok());
    if length != of_get.announced() {
        let of_get = of_get.announced().map_or("none".to_owned(), |length| length.to_string());
        return Fault::expected(format!("the head that GET has, with Content-Length: {of_get}"))
            .came(client.received())
            .cause("the length is that of what is sent now, not of what GET would send")
            .fail();
    }
    client.drains(&scene.leaves_open);
    let all = client.received();
    let end = all.windows(4).position(|part| part == b"\r\n\r\n").map_or(all.len(), |at| at + 4);
    if all.len() > end {
        let behind = &all[end..];
        return Fault::expected("nothing behind the empty line")
            .saw(format!("{} behind it", counted(behind.len(), "byte")))
            .came_wrong_at(all, end)
            .cause(if behind == of_get.body() {
                "the body is sent as for GET; the client takes it for the next answer"
            } else {
                "what is written behind each body, or cut off from it, is wrong where there is no body"
            })
            .fail();
    }
    Ok(())
}

pub(super) fn ends(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!(
        "time {} | nc -w 5 127.0.0.1 8080  # nc returns at once, not after 5 seconds",
        printf("GET", "/")
    ));
    let mut client = scene.connect()?;
    client.says(get("/"));
    client.answer()?;
    if client.sees_the_end() {
        return Ok(());
    }
    scene.leaves_open.set(true);
    Fault::expected("the end of the connection behind the answer, as Connection: close asks")
        .saw(match client.rest().len() {
            0 => "the answer, and then nothing: the connection stays open".to_owned(),
            more => format!("the answer, {} more, and no end", counted(more, "byte")),
        })
        .cause(
            "somebody still holds the socket: a parent process that did not close its copy, or a server \
             that waits for the next request",
        )
        .fail()
}

pub(super) fn two_requests(scene: &mut Scene) -> Outcome {
    scene.by_hand(format!(
        "curl -v -m 5 http://127.0.0.1:8080{} http://127.0.0.1:8080/ 2>&1 | grep -a '^\\*'  # says \"Re-using existing connection\"",
        scene.site.foreign_page.target
    ));
    let mut client = scene.connect()?;
    let files = scene.site.small_files();
    for file in &files {
        client.says(get_and_stay(&file.target));
        judge_answer(&client.answer()?, Some(file), &files)?;
    }
    Ok(())
}

pub(super) fn pipelined(scene: &mut Scene) -> Outcome {
    let site = scene.site;
    let files = [&site.page, &site.index, &site.picture, &site.nested];
    scene.by_hand(format!(
        "printf 'GET {} HTTP/1.1\\r\\nHost: h\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: h\\r\\nConnection: close\\r\\n\\r\\n' \
         | nc -w 5 127.0.0.1 8080 | grep -a -e HTTP/ -e title  # two answers; the first has the title of {}/site/{}",
        site.page.target,
        site.again(),
        site.page.path()
    ));
    let mut client = scene.connect()?;
    client.says(files.map(|file| get_and_stay(&file.target)).concat());
    for (number, file) in files.iter().enumerate() {
        let answer =
            client.answer().expecting("4 answers on one connection").because(&[Silent, Ended], &format!(
                "{number} of 4 requests that came together were answered: the rest was read along with \
                 the first and then forgotten, or the server waits for more bytes before it looks at it"
            ))?;
        judge_answer(&answer, Some(file), &files)?;
    }
    Ok(())
}

/// A client that puts off its acknowledgements. If head and body are sent apart, Nagle's algorithm holds
/// the body back until the head is acknowledged, so a read finds the head alone.
pub(super) fn one_piece(scene: &mut Scene) -> Outcome {
    scene.by_hand(
        "curl -s -m 5 -o /dev/null -w '%{time_total}\\n' 'http://127.0.0.1:8080/?[1-5]'  # no 0.04 among them",
    );
    let (target, _) = a_target(scene, 0);
    for _ in 0..10 {
        let mut client = scene.connect()?;
        client.stream().set_quickack(false)?;
        client.says(get_and_stay(target));
        client.reads_some();
        let first_read = client.received().to_vec();
        client.answer()?;
        if first_read.ends_with(b"\r\n\r\n") && client.received().len() > first_read.len() {
            return Fault::expected("head and body in one segment, since they fit")
                .saw("the head alone, and the body later:")
                .came(first_read)
                .cause(
                    "two writes: the second waits until the client has acknowledged the first, and the \
                     client waits 40 ms before it does (Nagle's algorithm against delayed acknowledgement)",
                )
                .fail();
        }
    }
    Ok(())
}
