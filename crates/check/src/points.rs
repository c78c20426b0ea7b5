//! What a check is worth. The layer that a step is about weighs more, and a check without which a step is
//! none is essential: if it fails, its layer and those behind it do not count.

use std::collections::BTreeMap;

use crate::Step;
use crate::checks::Layer;

/// What differs from the course's own points.
#[derive(Clone, Debug, Default)]
pub struct Scale {
    /// Points for a check of each of these layers.
    pub weights: BTreeMap<Layer, usize>,
    /// The names of the essential checks.
    pub essential: Option<Vec<String>>,
}

impl Layer {
    /// Points for a check of this layer.
    pub(crate) fn weight(self, step: &Step) -> usize {
        match self {
            Layer::Concurrency | Layer::Evidence if step.is_concurrent => 3,
            _ => 1,
        }
    }
}

/// The checks without which a step is none.
const ESSENTIAL: [&str; 5] = [
    "the answer is what was typed",
    "files arrive byte for byte",
    "two requests on one connection",
    "what a client sends is printed",
    "a silent client stops nobody",
];

/// The one of step 02, which has a single page: for others it is one mistake of many.
const NOT_THERE: &str = "what is not there is 404";

/// Whether this check is essential for a step.
pub(crate) fn essential(step: &Step, name: &str) -> bool {
    ESSENTIAL.contains(&name) || (!step.serves_files && name == NOT_THERE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::STEPS;
    use crate::checks::{CHECKS, Check, named};

    #[test]
    fn every_step_has_an_essential_check() {
        for step in STEPS {
            let has = |check: &&Check| (check.applies)(&step) && essential(&step, check.name);
            assert!(CHECKS.iter().any(|check| has(&check)), "{}", step.name);
        }
        for name in ESSENTIAL {
            assert!(named(name).is_some(), "{name}");
        }
    }
}
