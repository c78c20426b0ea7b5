//! Optional reading: the rarer forms of a target, and the name of the file that a path means.

use percent_encoding::percent_decode_str;

use crate::grammar::{ABSOLUTE_FORM, HOST};
use crate::problem::Problem;

/// Path and query of a target that does not begin with a slash: RFC 9112 §3.2 has three more forms,
/// and each method allows some of them.
pub(crate) fn origin_form<'a>(method: &str, target: &'a str) -> Result<&'a str, Problem> {
    // A tunnel's target is host:port, and "*" asks about the whole server. We offer neither method,
    // and the answer to both is the same whatever the path.
    if method == "CONNECT" || (method == "OPTIONS" && target == "*") {
        return Ok("/");
    }
    match ABSOLUTE_FORM.captures(target.as_bytes()) {
        Some(parts) if !parts[1].starts_with(b":") && HOST.is_match(&parts[1]) => {
            Ok(&target[target.len() - parts[2].len()..])
        }
        _ => Problem::bad_request(
            "The target must begin with '/', or be a whole http:// URL (RFC 9112, section 3.2).",
        ),
    }
}

/// The name, below the root, of the file that a path means: decoded, without the slash in front; a
/// folder's path gets its `index.html`.
///
/// # Errors
/// No file can have such a name, or its name begins with a dot and is not shown: 404.
pub fn file_name(path: &str) -> Result<Vec<u8>, Problem> {
    let index = if path.ends_with('/') { "index.html" } else { "" };
    let mut name = Vec::with_capacity(path.len() + index.len());
    for segment in format!("{path}{index}").split('/').skip(1) {
        if !name.is_empty() {
            name.push(b'/');
        }
        let start = name.len();
        name.extend(percent_decode_str(segment));
        let part = &name[start..];
        // '..' is one of the names that begin with a dot. A slash or NUL that was percent-encoded is
        // part of a name, and no file has a name like that.
        if part.is_empty() || part.starts_with(b".") || part.contains(&b'/') || part.contains(&0) {
            return Err(Problem::not_found());
        }
    }
    Ok(name)
}
