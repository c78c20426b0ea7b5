//! What is measured: a step, a floor, or anybody's server.

use std::collections::HashMap;
use std::env;
use std::path::PathBuf;

use check::{STEPS, Step, cargo};

use crate::Failure;
use crate::floor::Floor;
use crate::machine::{self, Cores};

/// What one would use at work: an example of this step, which serves the same site.
const EXAMPLE: (&str, &str) = ("step11-async", "at_work");

/// Something that can be started and asked for pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contender {
    /// As it stands in tables.
    pub(crate) name: String,
    kind: Kind,
    /// How many threads are to serve; if it is not said, as many as there are cores.
    workers: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// One of the course's servers that answer a browser with files.
    Step(Step),
    /// The example.
    Example,
    Floor(Floor),
    /// A command of the reader's, with `{port}`, `{root}` and `{workers}` in its words.
    Command(Vec<String>),
}

impl Contender {
    fn new(name: &str, kind: Kind) -> Contender {
        Contender { name: name.to_owned(), kind, workers: None }
    }

    pub(crate) fn floor(floor: Floor) -> Contender {
        Contender::new(&format!("floor-{}", floor.name()), Kind::Floor(floor))
    }

    /// Every step, as far as it serves files, and the example behind its step.
    pub(crate) fn all_steps() -> Vec<Contender> {
        let mut list = Vec::new();
        for step in STEPS.into_iter().filter(|step| step.serves_files) {
            list.push(Contender::new(step.name, Kind::Step(step)));
            if step.name == EXAMPLE.0 {
                list.push(Contender::new(EXAMPLE.1, Kind::Example));
            }
        }
        list
    }

    /// Reads "step05", "05", "step05-threads", "at_work" or "floor-epoll".
    pub(crate) fn parse(word: &str) -> Result<Contender, String> {
        let mut known = Contender::all_steps();
        known.extend(Floor::ALL.map(Contender::floor));
        let is_it = |contender: &&Contender| match &contender.kind {
            Kind::Step(step) => [step.name, step.short(), step.number()].contains(&word),
            _ => contender.name == word,
        };
        known.iter().find(is_it).cloned().ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|contender| &*contender.name).collect();
            format!("there is no '{word}' to measure; there are {}", names.join(", "))
        })
    }

    /// Reads "NAME=COMMAND".
    pub(crate) fn parse_with(word: &str) -> Result<Contender, String> {
        let hint =
            "type NAME=COMMAND, such as --with 'python=python3 -m http.server {port} -d {root}'";
        match word.split_once('=') {
            Some((name, command)) if !name.is_empty() && command.contains("{port}") => {
                let words = shlex::split(command).ok_or("a quote in the command has no end")?;
                Ok(Contender::new(name, Kind::Command(words)))
            }
            _ => Err(hint.to_owned()),
        }
    }

    /// Those that can share the work among threads, once for each number of them up to `most`; of the
    /// others, nobody.
    pub(crate) fn with_workers(&self, most: usize) -> Vec<Contender> {
        let takes_them = match &self.kind {
            Kind::Step(step) => ["10", "11"].contains(&step.number()),
            Kind::Floor(floor) => *floor == Floor::Epoll,
            Kind::Command(words) => words.iter().any(|word| word.contains("{workers}")),
            Kind::Example => false,
        };
        let with = |workers| Contender {
            name: format!("{} -w {workers}", self.name),
            workers: Some(workers),
            kind: self.kind.clone(),
        };
        if takes_them { (1..=most).map(with).collect() } else { Vec::new() }
    }

    /// Everything that keeps connections open or not, each step after the floor of its model.
    pub(crate) fn steps_and_floors(persistent: bool) -> Vec<Contender> {
        let mut list = Vec::new();
        for contender in Contender::all_steps() {
            if persistent && !contender.is_persistent() {
                continue;
            }
            if let Kind::Step(step) = &contender.kind {
                let its = Floor::ALL.into_iter().filter(|floor| floor.step() == step.number());
                let its = its.filter(|floor| floor.is_persistent() == persistent);
                list.extend(its.map(Contender::floor));
            }
            list.push(contender);
        }
        // The first row is what the others are compared with.
        if let Some(floor) = list.iter().position(Contender::is_floor) {
            list[..=floor].rotate_right(1);
        }
        list
    }

    /// Whether it can answer many requests on one connection.
    pub(crate) fn is_persistent(&self) -> bool {
        match &self.kind {
            Kind::Step(step) => step.is_persistent,
            Kind::Floor(floor) => floor.is_persistent(),
            Kind::Example | Kind::Command(_) => true,
        }
    }

    pub(crate) fn is_floor(&self) -> bool {
        matches!(self.kind, Kind::Floor(_))
    }

    /// The words that start it on a port. A floor sends `canned` bytes.
    pub(crate) fn command(
        &self,
        lab: &Lab,
        port: u16,
        canned: u64,
    ) -> Result<Vec<String>, Failure> {
        let root = lab.root.to_string_lossy();
        let port = port.to_string();
        let program = |name: &str| {
            let program = lab.programs.get(name).ok_or_else(|| format!("no program {name}"))?;
            Ok::<_, Failure>(program.to_string_lossy().into_owned())
        };
        let mut words: Vec<String> = match &self.kind {
            Kind::Step(Step { name, .. }) => vec![program(name)?],
            Kind::Example => vec![program(EXAMPLE.1)?],
            Kind::Floor(floor) => {
                let lab = env::current_exe()?.to_string_lossy().into_owned();
                let size = canned.to_string();
                let words = [&lab, "floor", floor.name(), "--port", &port, "--size", &size];
                words.map(str::to_owned).to_vec()
            }
            Kind::Command(words) => {
                let workers = self.workers.unwrap_or(lab.cores.server.len()).to_string();
                let filled_in = |word: &String| {
                    let word = word.replace("{port}", &port).replace("{workers}", &workers);
                    word.replace("{root}", &root)
                };
                return Ok(words.iter().map(filled_in).collect());
            }
        };
        if !self.is_floor() {
            // Nothing measured here may end because somebody was silent on purpose.
            let options = ["--quiet", "--timeout", "3600", "--port", &port, &root];
            words.extend(options.map(str::to_owned));
        }
        if let Some(workers) = self.workers {
            words.extend(["--workers".to_owned(), workers.to_string()]);
        }
        Ok(words)
    }
}

/// Where the measuring takes place.
#[derive(Clone, Debug)]
pub(crate) struct Lab {
    pub(crate) cores: Cores,
    /// Every core that there is, for both.
    pub(crate) all_cores: Cores,
    /// The site that is served.
    pub(crate) root: PathBuf,
    /// The programs by name.
    pub(crate) programs: HashMap<String, PathBuf>,
}

impl Lab {
    /// Builds the steps, as this program was built, and moves to its own cores.
    pub(crate) fn open(cores: Cores) -> Result<Lab, Failure> {
        let workspace = cargo::workspace().canonicalize()?;
        let steps: Vec<&str> =
            STEPS.iter().filter(|step| step.serves_files).map(|step| step.name).collect();
        let examples = if steps.contains(&EXAMPLE.0) { &[EXAMPLE.1][..] } else { &[] };
        let manifest = workspace.join("Cargo.toml");
        let programs = cargo::build_with_examples(&manifest, &steps, examples)?;
        let all_cores = Cores::all_for_both()?;
        machine::move_to(&cores.load)?;
        Ok(Lab { cores, all_cores, root: workspace.join("demo"), programs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_space_is_one_word() {
        let cores = Cores { server: vec![0, 1], load: vec![1] };
        let all_cores = cores.clone();
        let lab = Lab { cores, all_cores, root: "/my site".into(), programs: HashMap::new() };
        let contender = Contender::parse_with("a='/my programs/server' -w {workers} {port} {root}");
        let words = contender.unwrap().command(&lab, 80, 0).unwrap();
        assert_eq!(words, ["/my programs/server", "-w", "2", "80", "/my site"]);
    }
}
