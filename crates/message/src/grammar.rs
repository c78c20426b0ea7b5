//! Optional reading: the patterns that the lines of a message must match, and where they come from.
//!
//! All are anchored, and regex takes time in proportion to the length of its input whatever that
//! holds (it has no backtracking), so hostile bytes cannot make one slow.

use std::sync::LazyLock;

use regex::bytes::Regex;

/// Makes a static of each pattern, and the function that compiles them all.
macro_rules! patterns {
    ($($(#[$doc:meta])* $name:ident = $pattern:literal;)*) => {
        $($(#[$doc])* pub static $name: LazyLock<Regex> = LazyLock::new(|| {
            #[allow(clippy::expect_used)]
            Regex::new($pattern).expect("a constant pattern")
        });)*

        /// Compiles every pattern now. Whoever does not ask for it has each compiled at its first use,
        /// which takes more stack than a coroutine has, and which a child process would do again.
        pub fn compile() {
            $(LazyLock::force(&$name);)*
        }
    };
}

patterns! {
    /// Method, one space, target, one space, version: RFC 9112 §3. A method is a token (RFC 9110
    /// §5.6.2) and a target is visible ASCII.
    REQUEST_LINE = r"(?-u)^([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) (HTTP/[0-9]\.[0-9])$";

    /// Name, colon, value: RFC 9112 §5. No space before the colon, no control character in the value.
    FIELD_LINE = r"(?-u)^([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~\x80-\xff]*)$";

    /// Host and port as in RFC 3986 §3.2: a name, an IPv4 address or an IPv6 address in brackets.
    HOST = r"(?-u)^(\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::([0-9]*))?$";

    /// A target in absolute form, RFC 9112 §3.2.2: scheme, authority, then path and query.
    ABSOLUTE_FORM = r"(?-u)^(?i:https?)://([^/?]+)((?:[/?].*)?)$";

    /// A path in which each '%' is followed by two hexadecimal digits: RFC 3986 §2.1.
    PATH = r"(?-u)^(?:[^%]|%[0-9A-Fa-f]{2})*$";

    /// Transfer codings of which the last is chunked: RFC 9112 §6.3, item 4.
    ENDS_CHUNKED = r"(?-u)^[!-~\t ]*,[\t ]*(?i:chunked)$";

    /// A chunk's size in hexadecimal digits and its extensions: RFC 9112 §7.1. Sixteen digits are all
    /// that fit into 64 bits.
    CHUNK_SIZE = r"(?-u)^([0-9A-Fa-f]{1,16})(?:[\t ]*;[\t -~\x80-\xff]*)?$";

    /// The first entity tag of a list, with a W/ before it when it is weak, and the rest of the list:
    /// RFC 9110 §8.8.3 and §5.6.1. Case matters.
    ENTITY_TAG = r#"(?-u)^[\t ,]*((?:W/)?"[!\x23-\x7e\x80-\xff]*")[\t ]*(?:$|,[\t ,]*(.*)$)"#;

    /// The elder format of a date: weekday, day, month, two digits for the year, time. RFC 9110 §5.6.7.
    RFC_850_DATE = r"(?-u)^([A-Z][a-z]{2})[a-z]+, ([0-9]{2})-([A-Z][a-z]{2})-([0-9]{2}) ([0-9:]{8} GMT)$";

    /// A single range of bytes: RFC 9110 §14.1.2. Several at once are answered with the whole file.
    BYTE_RANGE = r"(?-u)^(?i:bytes)=([0-9]*)-([0-9]*)$";
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_pattern_compiles() {
        super::compile();
    }
}
