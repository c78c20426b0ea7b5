//! Bytes and numbers as a reader gets them.

/// The beginning of some bytes, with escapes.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 160;
    if bytes.is_empty() {
        return "nothing".to_owned();
    }
    let left = bytes.len().saturating_sub(SHOWN);
    let more = if left > 0 { format!("  ({} more)", counted(left, "byte")) } else { String::new() };
    format!("{}{more}", bytes[..bytes.len() - left].escape_ascii())
}

/// The bytes around the one at `at` with escapes, and a caret below it.
pub(crate) fn with_caret(bytes: &[u8], at: usize) -> [String; 2] {
    const BEFORE: usize = 30;
    let at = at.min(bytes.len());
    let from = at.saturating_sub(BEFORE);
    let to = (at + BEFORE).min(bytes.len());
    let before = format!("{}{}", if from > 0 { "..." } else { "" }, bytes[from..at].escape_ascii());
    let after = bytes[at..to].escape_ascii();
    let dots = if to < bytes.len() { "..." } else { "" };
    let end = if at == bytes.len() { "(the end)" } else { "" };
    [
        format!("{before}{after}{dots}{end}"),
        format!("{}^ byte {at}", " ".repeat(before.chars().count())),
    ]
}

/// A number with what it counts: `1 byte`, `2 bytes`.
pub fn counted(number: usize, what: &str) -> String {
    let plural = match what {
        _ if number == 1 => "",
        "process" => "es",
        _ => "s",
    };
    format!("{number} {what}{plural}")
}

/// Where two texts differ first; `None` if they are the same.
pub fn first_difference(came: &[u8], expected: &[u8]) -> Option<usize> {
    if came == expected {
        return None;
    }
    const PIECE: usize = 4096;
    let pieces = came.chunks(PIECE).zip(expected.chunks(PIECE));
    let start = PIECE * pieces.take_while(|(came, expected)| came == expected).count();
    let rest = came.iter().skip(start).zip(expected.iter().skip(start));
    Some(start + rest.take_while(|(came, expected)| came == expected).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_first_wrong_byte() {
        let came = b"HTTP/1.1 200 OK\r\n\r\nabcdef!";
        let lines = with_caret(came, came.len() - 1);
        let caret = lines[1].find('^').unwrap();
        assert_eq!(&lines[0][caret..=caret], "!");
    }

    #[test]
    fn a_caret_behind_the_last_byte_says_that_it_is_the_end() {
        assert_eq!(with_caret(b"abc", 3), ["abc(the end)", "   ^ byte 3"]);
    }

    #[test]
    fn differences_are_found() {
        assert_eq!(first_difference(b"abc", b"abc"), None);
        assert_eq!(first_difference(b"abd", b"abc"), Some(2));
        assert_eq!(first_difference(b"ab", b"abc"), Some(2));
        assert_eq!(first_difference(b"abcd", b"abc"), Some(3));
    }
}
