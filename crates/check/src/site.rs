//! A site with random names and random content, so that no answer can be known beforehand.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fastrand::Rng;

/// The length of the big file in bytes: more than the two sockets between server and client hold.
pub const BIG_LENGTH: usize = 16 * 1024 * 1024;

/// A folder beside the one that is served, whose name begins like it: `path.startswith(root)` takes it for
/// a part of the site.
pub const NEIGHBOUR: &str = "site-evil";

/// A file of the site.
#[derive(Clone, Debug)]
pub struct SiteFile {
    /// What a client asks for.
    pub target: String,
    /// What must come.
    pub bytes: Vec<u8>,
    /// How its Content-Type must begin.
    pub content_type: &'static str,
}

impl SiteFile {
    /// Its place in the folder of the site.
    pub fn path(&self) -> &str {
        if self.target == "/" { "index.html" } else { &self.target[1..] }
    }
}

/// What the folder of a run holds. The same seed gives the same site.
#[derive(Clone, Debug)]
pub struct Site {
    /// The number that everything else follows from.
    pub seed: u64,
    /// `index.html`, asked for as `/`.
    pub index: SiteFile,
    /// A page of plain ASCII.
    pub page: SiteFile,
    /// A page with letters that take two, three and four bytes.
    pub foreign_page: SiteFile,
    /// A style sheet.
    pub style: SiteFile,
    /// Bytes that are no text, in a file named as a picture.
    pub picture: SiteFile,
    /// A page in a folder of the site.
    pub nested: SiteFile,
    /// [`BIG_LENGTH`] bytes.
    pub big: SiteFile,
    /// A target that names nothing.
    pub missing: String,
    /// The name of the file beside the folder, which must not leave it. One of the same name lies in
    /// [`NEIGHBOUR`].
    pub secret_name: String,
    /// What that file holds.
    pub secret: String,
}

impl Site {
    /// Invents a site.
    pub fn new(seed: u64) -> Site {
        let mut random = Rng::with_seed(seed);
        let mut file = |extension: &str, content_type, bytes| SiteFile {
            target: format!("/{}.{extension}", word(&mut random)),
            bytes,
            content_type,
        };
        let mut content = Rng::with_seed(seed ^ 0x5EED);
        let page = file("html", "text/html", page(&mut content, &[]));
        let foreign_page = file(
            "html",
            "text/html",
            self::page(&mut content, &["größer", "日本語", "→", "🦀", "naïve"]),
        );
        let style = file(
            "css",
            "text/css",
            b"body { color: #"
                .iter()
                .copied()
                .chain(word(&mut content).into_bytes())
                .chain(*b" }\n")
                .collect(),
        );
        let picture = file("png", "image/png", picture(&mut content));
        let mut nested = file("html", "text/html", self::page(&mut content, &[]));
        let big = file("bin", "", big(&mut content));
        nested.target = format!("/{}{}", word(&mut random), nested.target);
        let index = SiteFile {
            target: "/".to_owned(),
            bytes: self::page(&mut content, &[]),
            content_type: "text/html",
        };
        Site {
            seed,
            index,
            page,
            foreign_page,
            style,
            picture,
            nested,
            big,
            missing: format!("/{}.html", word(&mut random)),
            secret_name: format!("{}.txt", word(&mut random)),
            secret: format!("secret {} {}\n", word(&mut random), word(&mut random)),
        }
    }

    /// Every file but the big one.
    pub fn small_files(&self) -> [&SiteFile; 6] {
        [&self.index, &self.page, &self.foreign_page, &self.style, &self.picture, &self.nested]
    }

    /// The folder in which a reader makes this site again, to try something by hand.
    pub fn again(&self) -> String {
        format!("again-{}", self.seed)
    }

    /// What a person would type as an answer in step 01.
    pub fn typed_answer(&self) -> Vec<u8> {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n",
            self.page.bytes.len()
        );
        [head.as_bytes(), &self.page.bytes].concat()
    }

    /// Writes the site to a folder `site` in `folder`, and the secret beside it. Returns the folder to
    /// serve.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        let root = folder.join("site");
        fs::create_dir_all(&root)?;
        fs::create_dir_all(folder.join(NEIGHBOUR))?;
        for place in [folder.to_owned(), folder.join(NEIGHBOUR)] {
            fs::write(place.join(&self.secret_name), &self.secret)?;
        }
        for file in self.small_files().into_iter().chain([&self.big]) {
            let path = root.join(file.path());
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, &file.bytes)?;
        }
        Ok(root)
    }
}

/// A word that nobody guesses.
pub fn word(random: &mut Rng) -> String {
    (0..12).map(|_| random.lowercase()).collect()
}

fn page(random: &mut Rng, extra: &[&str]) -> Vec<u8> {
    let mut text = format!("<!DOCTYPE html>\n<title>{}</title>\n", word(random));
    for paragraph in 0..random.usize(3..9) {
        let mut words: Vec<String> = (0..random.usize(4..20)).map(|_| word(random)).collect();
        words.extend(
            extra.iter().cycle().skip(paragraph).take(extra.len()).map(|&word| word.into()),
        );
        text += &format!("<p>{}</p>\n", words.join(" "));
    }
    text.into_bytes()
}

fn picture(random: &mut Rng) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    bytes.extend((0..random.usize(5000..9000)).map(|_| random.u8(..)));
    bytes
}

/// A part repeated. Its length is a prime, so that a piece which is sent twice or left out shows.
fn big(random: &mut Rng) -> Vec<u8> {
    let part: Vec<u8> = (0..65_537).map(|_| random.u8(..)).collect();
    let mut bytes = part.repeat(BIG_LENGTH / part.len() + 1);
    bytes.truncate(BIG_LENGTH);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_a_site_and_another_seed_another() {
        assert_eq!(Site::new(7).page.bytes, Site::new(7).page.bytes);
        assert_eq!(Site::new(7).missing, Site::new(7).missing);
        assert_ne!(Site::new(7).page.bytes, Site::new(8).page.bytes);
        assert_ne!(Site::new(7).page.target, Site::new(8).page.target);
        let page = Site::new(7).foreign_page.bytes;
        assert_ne!(String::from_utf8(page.clone()).unwrap().chars().count(), page.len());
    }

    #[test]
    fn the_folder_holds_what_the_site_says() {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::new(1);
        let root = site.write(folder.path()).unwrap();
        assert_eq!(fs::read(root.join("index.html")).unwrap(), site.index.bytes);
        assert_eq!(fs::read(root.join(&site.nested.target[1..])).unwrap(), site.nested.bytes);
        assert!(!root.join(&site.missing[1..]).exists());
        assert!(folder.path().join(&site.secret_name).exists());
    }
}
