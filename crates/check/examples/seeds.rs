//! Writes the requests of the wire suite as a seed corpus for the fuzz targets:
//! `cargo run -p check --example seeds -- fuzz/corpus`.

use std::fs;
use std::path::PathBuf;

use check::Failure;
use check::wire::cases;

fn main() -> Result<(), Failure> {
    let corpus: PathBuf = std::env::args_os().nth(1).ok_or("type the folder to write to")?.into();
    for target in ["parse", "conversation"] {
        fs::create_dir_all(corpus.join(target))?;
    }
    let mut number = 0;
    for (_, case) in cases()? {
        for request in case.requests()? {
            number += 1;
            fs::write(corpus.join(format!("parse/{number}")), &request)?;
            // The target's first two bytes say how the client reads and how its bytes are cut.
            fs::write(
                corpus.join(format!("conversation/{number}")),
                [&[4, 7], &request[..]].concat(),
            )?;
        }
    }
    Ok(())
}
