//! The drawings of the book can be read, in a light theme and in a dark one.

use std::fs;

use check::Failure;
use libtest_mimic::{Failed, Trial};
use serde_json::json;
use tests::{STEPS, ensure, start_in, workspace};

use crate::chromium::Browser;

/// An expression for the words of a drawing that differ too little from what is painted behind them, looked at in
/// three places each: a contrast under 4.5 (WCAG 2.2, success criterion 1.4.3). Words that stand on nothing are
/// among them, since a drawing does not know what it lies on.
const PALE: &str = "(() => {
    const luminance = (color) => {
        const [r, g, b] = color.match(/[0-9.]+/g).slice(0, 3).map((part) => {
            const value = part / 255;
            return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (one, other) => {
        const [darker, lighter] = [luminance(one), luminance(other)].sort((a, b) => a - b);
        return (lighter + 0.05) / (darker + 0.05);
    };
    const fill = (element) => getComputedStyle(element).fill;
    const pale = [];
    const texts = [...document.querySelectorAll('text')];
    for (const text of texts) {
        const { left, top, width, height } = text.getBoundingClientRect();
        for (const part of [0.02, 0.5, 0.98]) {
            const point = new DOMPoint(left + width * part, top + height / 2);
            const isUnder = (shape) => fill(shape) !== 'none' && shape instanceof SVGGeometryElement
                && shape.isPointInFill(point.matrixTransform(shape.getScreenCTM().inverse()));
            const behind = document.elementsFromPoint(point.x, point.y).find(isUnder);
            const ratio = behind ? contrast(fill(text), fill(behind)) : 1;
            if (ratio < 4.5) {
                pale.push(`${text.textContent.trim()}: ${ratio.toFixed(1)}`);
                break;
            }
        }
    }
    return { texts: texts.length, pale };
})()";

pub(crate) fn trials() -> [Trial; 1] {
    let title = "the book's drawings can be read, light and dark (needs chromium)";
    [Trial::test(title, || {
        drawings_can_be_read().map_err(|failure| Failed::from(failure.to_string()))
    })]
}

fn drawings_can_be_read() -> Result<(), Failure> {
    let folder = workspace().join("chapters/pictures");
    let step = STEPS.into_iter().find(|step| step.number() == "09").ok_or("no step 09")?;
    let server = start_in(step, &folder)?;
    let mut browser = Browser::start()?;
    // Large enough for each of them: what is outside is not looked at.
    let screen = json!({ "width": 1000, "height": 1000, "deviceScaleFactor": 1, "mobile": false });
    browser.call("Emulation.setDeviceMetricsOverride", screen)?;
    let mut faults = Vec::new();
    for scheme in ["light", "dark"] {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        browser.call("Emulation.setEmulatedMedia", json!({ "features": features }))?;
        for entry in fs::read_dir(&folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.ends_with(".svg") {
                continue;
            }
            browser.visit(&server, &name)?;
            let seen = browser.evaluate(PALE)?;
            ensure!(seen["texts"].as_u64() > Some(0), "{name}: no text");
            let pale = seen["pale"].as_array().into_iter().flatten();
            faults.extend(pale.map(|words| format!("{name}, {scheme}: {words}")));
        }
    }
    ensure!(faults.is_empty(), "too pale:\n{}", faults.join("\n"));
    Ok(())
}
