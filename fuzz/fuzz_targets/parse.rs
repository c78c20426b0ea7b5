//! Any bytes: the parser does not panic, a prefix of a request is incomplete, and what is accepted
//! reads the same to httparse.

#![no_main]

use libfuzzer_sys::fuzz_target;
use message::parse;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(request)) = parse(bytes) {
        // httparse knows HTTP/1.0 and 1.1; a higher minor version counts as 1.1 here (RFC 9110 §2.5).
        let line = bytes[..request.length].split(|&byte| byte == b'\n').find(|line| line.len() > 1);
        if !line.is_some_and(|line| line.ends_with(b"1.0\r") || line.ends_with(b"1.1\r")) {
            return;
        }
        for end in [0, request.length / 2, request.length - 1] {
            assert_eq!(parse(&bytes[..end]), Ok(None));
        }
        let mut fields = [httparse::EMPTY_HEADER; 256];
        let mut other = httparse::Request::new(&mut fields);
        assert_eq!(other.parse(bytes), Ok(httparse::Status::Complete(request.length)));
        assert_eq!((other.method, other.path), (Some(request.method), Some(request.target)));
        let theirs = other.headers.iter().map(|field| (field.name.as_bytes(), field.value));
        assert!(request.fields.iter().eq(theirs));
    }
});
