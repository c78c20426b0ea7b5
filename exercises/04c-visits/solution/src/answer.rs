//! A request and a folder in, an answer out.

use std::fs;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use regex::Regex;

pub(crate) struct Answer {
    pub(crate) status: &'static str,
    pub(crate) content_type: String,
    /// A header field that not every answer has, or nothing.
    pub(crate) field: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The page that gives a visit its number.
    pub(crate) fn of_visit(number: u64) -> Answer {
        let body = format!("<p>This is visit {number}.</p>\n").into_bytes();
        Answer { body, ..page("200 OK", String::new()) }
    }
}

fn page(status: &'static str, field: String) -> Answer {
    let body = format!("<h1>{status}</h1>\n").into_bytes();
    Answer { status, content_type: "text/html; charset=utf-8".to_owned(), field, body }
}

pub(crate) fn respond(head: &str, root: &Path, request_line: &Regex) -> Answer {
    let parts = match request_line.captures(head) {
        Some(parts) if head.contains("\r\n\r\n") => parts,
        _ => return page("400 Bad Request", String::new()),
    };
    if !matches!(&parts[1], "GET" | "HEAD") {
        return page("405 Method Not Allowed", "Allow: GET, HEAD\r\n".to_owned());
    }
    let path = parts[2].split('?').next().unwrap_or_default();
    let Some(file) = find(root, path) else { return page("404 Not Found", String::new()) };
    if file.is_dir() {
        return page("301 Moved Permanently", format!("Location: {path}/\r\n"));
    }
    match file.is_file().then(|| fs::read(&file)) {
        Some(Ok(body)) => {
            let media_type = mime_guess::from_path(&file).first_or_octet_stream();
            let is_text = media_type.type_() == "text";
            let charset = if is_text { "; charset=utf-8" } else { "" };
            let content_type = format!("{media_type}{charset}");
            Answer { status: "200 OK", content_type, field: String::new(), body }
        }
        _ => page("404 Not Found", String::new()),
    }
}

/// The file that a path names, if it lies below the root and is not hidden.
fn find(root: &Path, path: &str) -> Option<PathBuf> {
    let name = percent_decode_str(path).decode_utf8().ok()?;
    // Hidden names begin with a dot, and '..' does too.
    if name.split('/').any(|part| part.starts_with('.')) {
        return None;
    }
    let mut file = root.join(name.strip_prefix('/')?);
    if name.ends_with('/') {
        file.push("index.html");
    }
    // Where it really is, all links followed.
    let file = file.canonicalize().ok()?;
    file.starts_with(root).then_some(file)
}
