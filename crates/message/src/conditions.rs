//! Optional reading: what a request with `If-…` or `Range` fields gets: the file, a part of it, or
//! only the word that the client has it already.

use std::time::{Duration, SystemTime};

use crate::grammar::{BYTE_RANGE, ENTITY_TAG, RFC_850_DATE};
use crate::request::{Fields, Request};

/// What a client can name a version of a file by: RFC 9110 §8.8.
#[derive(Debug)]
pub struct Validators {
    /// Last-Modified: whole seconds, and never later than the answer (RFC 9110 §8.8.2.1).
    pub modified: SystemTime,
    /// The entity tag, with its quotes; weak when it begins with `W/`.
    pub tag: String,
}

/// What is sent of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Selected {
    /// All of it: 200.
    Whole,
    /// The bytes from `first` to `last`, both included: 206.
    Part {
        /// The first byte, counted from 0.
        first: u64,
        /// The last byte.
        last: u64,
    },
    /// Nothing, since the client has this version: 304.
    NotModified,
    /// Nothing, since the request is about another version: 412.
    PreconditionFailed,
    /// Nothing, since the file has no bytes there: 416.
    RangeNotSatisfiable,
}

/// Looks at the conditions of a request, and then at its range: RFC 9110 §13.2.2. A condition on the
/// tag goes before the one on the date, and replaces it. `size` is that of the file, in bytes; `now` is
/// for dates whose year has two digits.
pub fn select(request: &Request<'_>, file: &Validators, size: u64, now: SystemTime) -> Selected {
    let fields = request.fields;
    let date = |name| date(fields, name, now);
    let tag = file.tag.as_bytes();
    let strong = |other: &[u8]| other == tag && !tag.starts_with(b"W/");
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_owned();
    let weak = |other: &[u8]| opaque(other) == opaque(tag);

    let is_the_one = any_tag(fields, "If-Match", strong)
        .unwrap_or_else(|| date("If-Unmodified-Since").is_none_or(|date| file.modified <= date));
    if !is_the_one {
        return Selected::PreconditionFailed;
    }
    let is_known = any_tag(fields, "If-None-Match", weak)
        .unwrap_or_else(|| date("If-Modified-Since").is_some_and(|date| file.modified <= date));
    if is_known {
        return Selected::NotModified;
    }
    // RFC 9110 §13.1.5: "a part if the file is still this one, else the whole file". Our rule: only a
    // tag says so. A date would have to be known as strong, and a file may change twice in its second.
    if fields.all("If-Range").all(strong) { select_range(request, size) } else { Selected::Whole }
}

/// Whether a tag in the list is the right one; `*` stands for any. `None` without such a field. A list
/// is read up to what is not a tag.
fn any_tag(fields: Fields<'_>, name: &str, is_right: impl Fn(&[u8]) -> bool) -> Option<bool> {
    let mut has_field = false;
    for mut list in fields.all(name) {
        has_field = true;
        if list == b"*" {
            return Some(true);
        }
        while let Some(parts) = ENTITY_TAG.captures(list) {
            if is_right(&parts[1]) {
                return Some(true);
            }
            list = parts.get(2).map_or(b"", |rest| rest.as_bytes());
        }
    }
    has_field.then_some(false)
}

/// The only field of this name, as a date in one of the three formats of RFC 9110 §5.6.7. What is not
/// one date is ignored, as §13.1.3 and §13.1.4 ask; one with the wrong weekday is none.
fn date(fields: Fields<'_>, name: &str, now: SystemTime) -> Option<SystemTime> {
    let mut values = fields.all(name);
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    // httpdate has no leap second.
    let parse = |date| {
        let date = str::from_utf8(date).ok()?.replace("23:59:60", "23:59:59");
        httpdate::parse_http_date(&date).ok()
    };
    // A year of two digits is of this century, unless that is more than 50 years ahead. httpdate takes
    // 70 and more for the last century.
    let is_near = |date: &SystemTime| *date <= now + Duration::from_secs(50 * 31_556_952);
    let this_century = RFC_850_DATE.replace(value, b"$1, $2 $3 20$4 $5");
    parse(&this_century).filter(is_near).or_else(|| parse(value))
}

/// RFC 9110 §14.2: a Range field is for GET, and one that is not understood is ignored.
fn select_range(request: &Request<'_>, size: u64) -> Selected {
    let mut ranges = request.fields.all("Range");
    let (Some(range), None, "GET") = (ranges.next(), ranges.next(), request.method) else {
        return Selected::Whole;
    };
    let Some(parts) = BYTE_RANGE.captures(range) else { return Selected::Whole };
    match (position(&parts[1]), position(&parts[2])) {
        (None, None) => Selected::Whole,
        (Some(first), Some(last)) if last < first => Selected::Whole,
        (Some(first), _) if first >= size => Selected::RangeNotSatisfiable,
        (Some(first), last) => {
            Selected::Part { first, last: last.unwrap_or(u64::MAX).min(size - 1) }
        }
        // "-500" means the last 500 bytes.
        (None, Some(count)) if count == 0 || size == 0 => Selected::RangeNotSatisfiable,
        (None, Some(count)) => Selected::Part { first: size.saturating_sub(count), last: size - 1 },
    }
}

/// A number too large for 64 bits is larger than any file, which is all that matters here.
fn position(digits: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(digits).ok().filter(|digits| !digits.is_empty())?;
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::request::parse;

    fn selected(tag: &str, fields: &str) -> Selected {
        let validators = Validators {
            // Sun, 09 Sep 2001 01:46:40 GMT
            modified: UNIX_EPOCH + Duration::from_secs(1_000_000_000),
            tag: tag.to_owned(),
        };
        let bytes = format!("GET / HTTP/1.0\r\n{fields}\r\n\r\n");
        select(&parse(bytes.as_bytes()).unwrap().unwrap(), &validators, 1000, now())
    }

    fn now() -> SystemTime {
        httpdate::parse_http_date("Wed, 25 Nov 2026 04:30:00 GMT").unwrap()
    }

    #[test]
    fn tags_are_compared_as_wholes() {
        for (field, expected) in [
            ("If-None-Match: \"a\"", Selected::NotModified),
            ("If-None-Match: W/\"a\"", Selected::NotModified),
            ("If-None-Match: \"x,\" , , \"a\"", Selected::NotModified),
            ("If-None-Match: *", Selected::NotModified),
            ("If-None-Match: w/\"a\"", Selected::Whole),
            ("If-None-Match: x\"a\"", Selected::Whole),
            ("If-None-Match: a", Selected::Whole),
            ("If-None-Match: \"x\"\"a\"", Selected::Whole),
            ("If-Match: \"x\", \"a\"", Selected::Whole),
            ("If-Match: W/\"a\"", Selected::PreconditionFailed),
            ("If-Match: w/\"a\"", Selected::PreconditionFailed),
            ("If-Match:", Selected::PreconditionFailed),
        ] {
            assert_eq!(selected("\"a\"", field), expected, "{field}");
        }
        assert_eq!(selected("W/\"a\"", "If-None-Match: \"a\""), Selected::NotModified);
        assert_eq!(selected("W/\"a\"", "If-Match: W/\"a\""), Selected::PreconditionFailed);
        assert_eq!(selected("W/\"a\"", "If-Range: W/\"a\"\r\nRange: bytes=0-"), Selected::Whole);
    }

    #[test]
    fn a_date_that_stands_twice_is_ignored() {
        const THEN: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
        const BEFORE: &str = "Sun, 09 Sep 2001 01:46:39 GMT";
        let since = |date| format!("If-Modified-Since: {date}");
        let unmodified = |date| format!("If-Unmodified-Since: {date}");
        assert_eq!(selected("\"a\"", &since(THEN)), Selected::NotModified);
        assert_eq!(selected("\"a\"", &since(BEFORE)), Selected::Whole);
        assert_eq!(selected("\"a\"", &[since(THEN), since(THEN)].join("\r\n")), Selected::Whole);
        assert_eq!(selected("\"a\"", &unmodified(BEFORE)), Selected::PreconditionFailed);
        let twice = [unmodified(BEFORE), unmodified(BEFORE)].join("\r\n");
        assert_eq!(selected("\"a\"", &twice), Selected::Whole);
    }

    #[test]
    fn a_year_of_two_digits_is_at_most_fifty_years_ahead() {
        for (date, full) in [
            ("Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("Tuesday, 19-Jan-38 03:14:07 GMT", "Tue, 19 Jan 2038 03:14:07 GMT"),
            ("Tuesday, 24-Nov-76 00:00:00 GMT", "Tue, 24 Nov 2076 00:00:00 GMT"),
            ("Friday, 26-Nov-76 00:00:00 GMT", "Fri, 26 Nov 1976 00:00:00 GMT"),
            // The weekday is that of 2076, which is too far ahead for two digits and not for four.
            ("Saturday, 28-Nov-76 00:00:00 GMT", ""),
            ("Sat, 28 Nov 2076 00:00:00 GMT", "Sat, 28 Nov 2076 00:00:00 GMT"),
            ("Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("Sat, 31 Dec 2016 23:59:60 GMT", "Sat, 31 Dec 2016 23:59:59 GMT"),
            ("Saturday, 31-Dec-16 23:59:60 GMT", "Sat, 31 Dec 2016 23:59:59 GMT"),
            ("Sat, 31 Dec 2016 12:59:60 GMT", ""),
            ("Mon, 06 Nov 1994 08:49:37 GMT", ""),
            ("Sun, 6 Nov 1994 08:49:37 GMT", ""),
            ("Sun, 06 Nov 94 08:49:37 GMT", ""),
            ("Sun, 06 Nov 1994 08:49:37 UTC", ""),
            ("Sun, 06 Nov 1994 24:00:00 GMT", ""),
            ("Tue, 30 Feb 2016 08:49:37 GMT", ""),
        ] {
            let bytes = format!("GET / HTTP/1.0\r\nIf-Modified-Since: {date}\r\n\r\n");
            let request = parse(bytes.as_bytes()).unwrap().unwrap();
            let date_of = super::date(request.fields, "If-Modified-Since", now());
            assert_eq!(date_of.map(crate::response::http_date).unwrap_or_default(), full, "{date}");
        }
    }
}
