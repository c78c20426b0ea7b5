//! Writes the pictures of the demo site into `demo/`: `cargo run -p pictures`.

use std::error::Error;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo");
    fs::create_dir_all(demo.join("gallery"))?;
    for (path, bytes) in pictures::all()? {
        fs::write(demo.join(path), bytes)?;
    }
    Ok(())
}
