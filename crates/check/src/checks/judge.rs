//! Whether an answer is the file that was asked for, and if not, what it tells.

use super::Outcome;
use crate::answer::{Answer, Reply};
use crate::site::SiteFile;
use crate::story::Symptom::{Ended, Other, Status};
use crate::story::{Fault, Symptom};
use crate::words::{counted, first_difference};

/// The answer must be 200 and the file.
pub(super) fn judge(reply: &Reply, file: &SiteFile, others: &[&SiteFile]) -> Outcome {
    if reply.answer.status != 200 {
        return reply
            .fault(format!("status 200 for {}, which is there", file.target))
            .symptom(Status)
            .cause(cause_of_status(reply.answer.status))
            .fail();
    }
    let Some(difference) = Difference::between(reply.body(), file, others) else { return Ok(()) };
    Fault::expected(format!("the {} of {}", counted(file.bytes.len(), "byte"), file.target))
        .saw(format!("{} behind the head", counted(reply.body().len(), "byte")))
        .came_wrong_at(&reply.all, reply.head_length + difference.at)
        .symptom(difference.symptom)
        .cause(difference.cause)
        .fail()
}

/// Why a file that is there may come with another status than 200.
fn cause_of_status(status: u16) -> &'static str {
    match status {
        404 => "the file is looked for in another place than the folder that is served",
        400..500 => "the server takes a plain request for a wrong one",
        500.. => "something failed in the server; what it printed may say what",
        _ => "the server does not answer a plain request with the file",
    }
}

/// Where a body is not the file, and what that tells.
struct Difference {
    at: usize,
    symptom: Symptom,
    cause: String,
}

impl Difference {
    fn between(came: &[u8], file: &SiteFile, others: &[&SiteFile]) -> Option<Difference> {
        /// U+FFFD in UTF-8: what a decoder writes for bytes that are no text.
        const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
        /// Two pages of a site begin alike, a page and something else do not.
        const BY_CHANCE: usize = 4;
        let wanted = &file.bytes[..];
        let at = first_difference(came, wanted)?;
        let cause = if let Some(other) = others.iter().find(|other| other.bytes == came) {
            format!("this is the answer to another request, for {}", other.target)
        } else if at == wanted.len() {
            "the whole file came, and something behind it: a line end, or a byte too many"
                .to_owned()
        } else if at == came.len() {
            "the answer stops before the end of the file".to_owned()
        } else if came[at..].starts_with(REPLACEMENT) {
            "the file was read as text: what is no text became U+FFFD (EF BF BD)".to_owned()
        } else if at < BY_CHANCE && came.len() < wanted.len() / 2 {
            "this is another page: the server does not look into the folder that it is given as \
             {root}, or does not look at the target"
                .to_owned()
        } else {
            "from this byte on something else comes: the file was changed on the way, or a part of \
             it is left out or sent twice"
                .to_owned()
        };
        let is_cut = at == came.len() && at < wanted.len();
        Some(Difference { at, symptom: if is_cut { Ended } else { Other }, cause })
    }
}

/// The answer must be 200 and, if it is known, the file.
pub(super) fn judge_answer(
    answer: &Answer,
    file: Option<&SiteFile>,
    others: &[&SiteFile],
) -> Outcome {
    if answer.status != 200 {
        return Fault::expected("status 200")
            .saw(format!("status {}, and this body:", answer.status))
            .came(&answer.body)
            .symptom(Status)
            .cause(cause_of_status(answer.status))
            .fail();
    }
    let Some(file) = file else { return Ok(()) };
    let Some(difference) = Difference::between(&answer.body, file, others) else { return Ok(()) };
    let (came, wanted) = (answer.body.len(), file.bytes.len());
    let fault = Fault::expected(format!("the {} of {}", counted(wanted, "byte"), file.target))
        .saw(format!("a body of {}", counted(came, "byte")))
        .came_wrong_at(&answer.body, difference.at)
        .symptom(difference.symptom);
    if difference.symptom == Ended {
        let cause = "Content-Length ends the answer before the file ends: the rest was left out, or \
                     will be taken for the next answer";
        return fault.cause(cause).fail();
    }
    fault.cause(difference.cause).fail()
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
