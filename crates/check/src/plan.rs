//! Which checks a task asks for, in which order, and which of them a word picks.

use crate::Failure;
use crate::checks::{CHECKS, Check, Layer, Level, named};
use crate::points::{Scale, essential};
use crate::report::CheckResult;
use crate::story::Explanation;
use crate::task::{self, Settings, Task};
use crate::wire::{Applies, Case, cases};

/// A check that is to be made.
#[derive(Clone)]
pub struct Planned {
    /// Its name in the report.
    pub name: String,
    /// What it looks at.
    pub layer: Layer,
    /// Whether it is made only at the strict level.
    pub is_strict: bool,
    /// Whether it is the one that the exercise is about.
    pub is_own: bool,
    /// Whether its layer and those behind it count only if it passes.
    pub is_essential: bool,
    /// What it is worth.
    pub points: usize,
    /// The group of the wire suite that it is in.
    pub group: Option<&'static str>,
    pub(crate) work: Work,
}

/// How it is made.
#[derive(Clone)]
pub(crate) enum Work {
    /// A check of the table, with the random site.
    Check(&'static Check),
    /// Bytes in and what must come back, with the site of the wire suite.
    Case(Box<Case>),
}

impl Task {
    /// The checks to be made, in their order: first those that are the exercise's own. A word picks some
    /// of them: a layer of this level, a group of the wire suite, or what has the word in its name,
    /// whatever the level.
    ///
    /// # Errors
    /// The exercise names a check or a step that there is not, the word picks nothing, or something that is to
    /// be essential is not checked.
    pub fn plan(&self, settings: &Settings) -> Result<Vec<Planned>, Failure> {
        let mut plan = self.all_checks()?;
        // What /proc shows is the model, and nothing else.
        plan.retain(|planned| {
            !settings.any_model || planned.layer != Layer::Evidence || planned.is_own
        });
        let is_strict = settings.level == task::Level::Strict;
        match &settings.only {
            Some(word) => self.pick(&mut plan, &word.to_lowercase(), is_strict)?,
            None => plan.retain(|planned| is_strict || !planned.is_strict),
        }
        self.weigh(&mut plan, &settings.scale)?;
        Ok(plan)
    }

    fn pick(&self, plan: &mut Vec<Planned>, word: &str, is_strict: bool) -> Result<(), Failure> {
        let is = |planned: &Planned| planned.name.to_lowercase() == word;
        if plan.iter().any(|planned| planned.layer.to_string() == word) {
            plan.retain(|planned| {
                planned.layer.to_string() == word && (is_strict || !planned.is_strict)
            });
        } else if plan.iter().any(|planned| planned.group == Some(word)) {
            plan.retain(|planned| planned.group == Some(word));
        } else if plan.iter().any(is) {
            plan.retain(is);
        } else {
            plan.retain(|planned| planned.name.to_lowercase().contains(word));
        }
        if plan.is_empty() {
            let name = self.name();
            return Err(format!(
                "no check of {name} has \"{word}\" in its name; check --list --step {name} names them"
            )
            .into());
        }
        Ok(())
    }

    /// Says what each check is worth.
    fn weigh(&self, plan: &mut [Planned], scale: &Scale) -> Result<(), Failure> {
        let step = self.step()?;
        let Scale { weights, essential: chosen } = scale;
        let unknown = |name: &&String| !plan.iter().any(|planned| planned.name == **name);
        if let Some(unknown) = chosen.iter().flatten().find(unknown) {
            let name = self.name();
            return Err(format!("essential is \"{unknown}\", which {name} does not check").into());
        }
        for planned in plan.iter_mut() {
            planned.is_essential = match (chosen, self) {
                (Some(chosen), _) => chosen.contains(&planned.name),
                (None, Task::Step(step)) => essential(step, &planned.name),
                (None, Task::Exercise(_)) => false,
            };
            planned.points = match (weights.get(&planned.layer), self) {
                (Some(points), _) => *points,
                (None, Task::Step(_)) => planned.layer.weight(&step),
                (None, Task::Exercise(_)) => 1,
            };
        }
        let others =
            plan.iter().filter(|planned| !planned.is_own).map(|planned| planned.points).sum();
        for own in plan.iter_mut().filter(|planned| planned.is_own) {
            own.points = usize::max(others, 1);
        }
        Ok(())
    }

    /// All checks, those of the strict level too.
    fn all_checks(&self) -> Result<Vec<Planned>, Failure> {
        let step = self.step()?;
        let table = CHECKS.iter().filter(|check| (check.applies)(&step));
        let (mut own, mut plan) = (Vec::new(), Vec::new());
        if let Task::Exercise(exercise) = self {
            own.extend(exercise.cases.iter().map(|case| Planned {
                is_own: case.name == exercise.check,
                ..Planned::case(None, case.clone())
            }));
            if !own.iter().any(|planned| planned.is_own) {
                let check = named(&exercise.check).filter(|check| (check.applies)(&step));
                let check = check.ok_or_else(|| {
                    format!(
                        "{}: {} has no check \"{}\", and no case here has that name",
                        exercise.folder.join("exercise.toml").display(),
                        exercise.step,
                        exercise.check
                    )
                })?;
                own.insert(0, Planned { is_own: true, is_strict: false, ..Planned::check(check) });
            }
        }
        plan.extend(table.filter(|check| check.level != Level::Exercise).map(Planned::check));
        plan.retain(|planned| !own.iter().any(|own| own.name == planned.name));
        // Stable: within a level the order of the table stays.
        plan.sort_by_key(|planned| planned.is_strict);
        let suite = cases()?.into_iter().filter(|(_, case)| match case.applies {
            Applies::All => step.speaks_http(),
            Applies::Files => step.serves_files,
            Applies::Persistent => step.is_persistent,
        });
        plan.extend(suite.map(|(group, case)| Planned::case(Some(group), case)));
        Ok([own, plan].concat())
    }
}

impl Planned {
    /// How it ended, after so many seconds; `failure` says why, if it has failed.
    pub fn result(&self, seconds: f64, failure: Option<Explanation>) -> CheckResult {
        CheckResult {
            name: self.name.clone(),
            layer: self.layer.to_string(),
            is_own: self.is_own,
            is_essential: self.is_essential,
            points: self.points,
            seconds,
            failure,
            counted: String::new(),
            is_unclear: false,
        }
    }

    fn check(check: &'static Check) -> Planned {
        Planned {
            name: check.name.to_owned(),
            layer: check.layer,
            is_strict: check.level == Level::Strict,
            is_own: false,
            is_essential: false,
            points: 1,
            group: None,
            work: Work::Check(check),
        }
    }

    fn case(group: Option<&'static str>, case: Case) -> Planned {
        Planned {
            name: match group {
                Some(group) => format!("{group}: {}", case.name),
                None => case.name.clone(),
            },
            layer: Layer::Wire,
            is_strict: group.is_some(),
            is_own: false,
            is_essential: false,
            points: 1,
            group,
            work: Work::Case(Box::new(case)),
        }
    }
}
