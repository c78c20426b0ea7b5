//! Draws the pictures of the demo site: a hundred small ones, each different, and a big one that no
//! server can send in one piece. The same input gives the same bytes, so a test can hold the files
//! in `demo/` against this program.

use std::f64::consts::TAU;

// std's functions are the system's, and may differ in the last digit from one system to the next.
use libm::{atan2, cos, hypot, log, log2};

/// Width and height of a small picture, in pixels.
const SMALL: u32 = 120;
/// Width and height of the big picture, in pixels.
const BIG: (u32, u32) = (2000, 1300);

type Color = [u8; 3];

/// Every picture of the demo site: its path below `demo/` and its bytes.
///
/// # Errors
/// The encoder refuses a picture, which would be a fault of this program.
pub fn all() -> Result<Vec<(String, Vec<u8>)>, png::EncodingError> {
    let mut files = Vec::new();
    for number in 1..=100 {
        files.push((
            format!("gallery/{number:03}.png"),
            encode(SMALL, SMALL, &rose(number, SMALL))?,
        ));
    }
    files.push(("big.png".to_owned(), encode(BIG.0, BIG.1, &julia(BIG.0, BIG.1))?));
    let icon = encode(32, 32, &rose(50, 32))?;
    files.push(("favicon.ico".to_owned(), icon_file(&icon)));
    Ok(files)
}

/// A rose with 2 to 11 petals, in a hue of its own, on a background of the opposite one.
fn rose(number: u32, size: u32) -> Vec<u8> {
    let petals = 2.0 + f64::from((number - 1) % 10);
    let twist = f64::from((number - 1) / 10) * 0.35;
    let turn = f64::from(number) / 100.0;
    let (flower, ground) = (hue(turn, 0.62), hue(turn + 0.5, 0.14));
    draw(size, size, |x, y| {
        let (radius, angle) = (hypot(x, y), atan2(y, x));
        let edge = 0.25 + 0.65 * cos(petals * 0.5 * (angle + twist * radius * 2.0)).abs();
        // A soft edge, two pixels wide.
        let inside = ((edge - radius) * f64::from(size) / 4.0 + 0.5).clamp(0.0, 1.0);
        let shade = 1.0 - 0.5 * (radius / edge.max(0.01)).min(1.0);
        mix(
            ground,
            flower.map(|part| (f64::from(part) * (0.6 + 0.6 * shade)).min(255.0) as u8),
            inside,
        )
    })
}

/// The Julia set of one point, coloured by how fast the points around it escape.
fn julia(width: u32, height: u32) -> Vec<u8> {
    draw(width, height, |x, y| {
        let (mut re, mut im) = (x * 1.4, y * 1.4);
        let mut steps = 0.0;
        while steps < 300.0 && re * re + im * im < 256.0 {
            (re, im) = (re * re - im * im - 0.7269, 2.0 * re * im + 0.1889);
            steps += 1.0;
        }
        let smooth = steps - log2(log((re * re + im * im).max(1.01)) / 2.0).max(0.0);
        hue(0.55 + smooth / 90.0, 0.12 + 0.55 * (smooth / 60.0).min(1.0))
    })
}

/// Asks for the colour of each pixel; the middle is (0, 0) and the shorter side runs from -1 to 1.
fn draw(width: u32, height: u32, color_at: impl Fn(f64, f64) -> Color) -> Vec<u8> {
    let scale = 2.0 / f64::from(width.min(height));
    let mut pixels = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            let position =
                |at: u32, side: u32| (f64::from(at) + 0.5 - f64::from(side) / 2.0) * scale;
            pixels.extend(color_at(position(x, width), position(y, height)));
        }
    }
    pixels
}

/// A colour by its place on the colour wheel (whole turns) and its lightness from 0 to 1.
fn hue(turn: f64, lightness: f64) -> Color {
    let part = |offset: f64| {
        let wave = 0.5 + 0.5 * cos((turn + offset) * TAU);
        (255.0 * (lightness + (wave - 0.5) * 0.7 * lightness)).clamp(0.0, 255.0) as u8
    };
    [part(0.0), part(2.0 / 3.0), part(1.0 / 3.0)]
}

fn mix(from: Color, to: Color, amount: f64) -> Color {
    std::array::from_fn(|i| (f64::from(from[i]) * (1.0 - amount) + f64::from(to[i]) * amount) as u8)
}

fn encode(width: u32, height: u32, pixels: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(file)
}

/// An icon file with one picture of 32 by 32 pixels: a header of 22 bytes, then the PNG.
fn icon_file(png: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 1, 0, 1, 0, 32, 32, 0, 0, 1, 0, 24, 0];
    file.extend((png.len() as u32).to_le_bytes());
    file.extend(22_u32.to_le_bytes());
    file.extend(png);
    file
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    #[test]
    fn the_files_in_demo_are_what_this_program_draws() {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo");
        let files = super::all().unwrap();
        for (path, bytes) in &files {
            assert!(
                std::fs::read(demo.join(path)).unwrap() == *bytes,
                "demo/{path} differs: run cargo run -p pictures"
            );
        }
        let different: HashSet<&Vec<u8>> = files.iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(different.len(), 102, "two pictures are alike");
        assert!(files[100].1.len() > 1 << 20, "the big picture fits into a socket");
    }
}
