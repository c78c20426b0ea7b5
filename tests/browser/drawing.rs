//! What the gallery's script has drawn and said.

use check::Failure;
use serde_json::Value;

/// An expression that a browser evaluates in the gallery, for [`Drawing::read`].
pub(crate) const LOOK: &str = "({
    isShown: document.querySelector('#connections').checkVisibility(),
    isInView: document.querySelector('#axis').getBoundingClientRect().bottom <= innerHeight,
    columns: new Set([...document.images].map((image) => image.getBoundingClientRect().left)).size,
    sentence: document.querySelector('#sentence').textContent,
    remarks: document.querySelector('#remarks').textContent,
    textAlternative: document.querySelector('[role=img]').ariaLabel ?? '',
    bars: document.querySelectorAll('#bars > div').length,
    opened: document.querySelectorAll('#bars .opening').length,
    rows: document.querySelectorAll('#times > tr').length,
})";

/// What the script in the gallery has drawn.
pub(crate) struct Drawing {
    pub(crate) is_shown: bool,
    /// Down to its axis it is seen without scrolling.
    pub(crate) is_in_view: bool,
    /// Of the pictures.
    pub(crate) columns: u64,
    pub(crate) sentence: String,
    pub(crate) remarks: String,
    pub(crate) text_alternative: String,
    pub(crate) bars: u64,
    /// The bars on which a connection is opened.
    pub(crate) opened: u64,
    pub(crate) rows: u64,
}

impl Drawing {
    /// Reads what [`LOOK`] has brought.
    ///
    /// # Errors
    /// A number is missing.
    pub(crate) fn read(looked: &Value) -> Result<Drawing, Failure> {
        let text = |name: &str| looked[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| looked[name].as_u64().ok_or_else(|| format!("no {name}"));
        Ok(Drawing {
            is_shown: looked["isShown"] == true,
            is_in_view: looked["isInView"] == true,
            columns: number("columns")?,
            sentence: text("sentence"),
            remarks: text("remarks"),
            text_alternative: text("textAlternative"),
            bars: number("bars")?,
            opened: number("opened")?,
            rows: number("rows")?,
        })
    }
}
