//! What is measured for each command, one part after the other.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::{All, Bench, Idle, Only, Stall, TimelineOf, What, Workers};
use crate::bench::{self, Effort, Page, Workload};
use crate::contender::{Contender, Lab};
use crate::crowd::{self, SILENT};
use crate::floor::Floor;
use crate::machine::Cores;
use crate::report::Report;
use crate::{Failure, plot, print, tables, timeline};

pub(crate) async fn measure(what: &What, lab: &Lab, report: &mut Report) -> Result<(), Failure> {
    let plans = match what {
        What::Bench(bench) => bench.plans(),
        What::Idle(Idle { contenders, connections, .. }) => {
            vec![Plan::Idle(contenders.or(steps_and_epoll()), (*connections).into())]
        }
        What::Stall(Stall { contenders, .. }) => {
            vec![Plan::Stall(contenders.or(steps_and_epoll()))]
        }
        What::Workers(workers) => match workers.plans(lab) {
            plans if plans.is_empty() => {
                return Err("none of these takes workers; floor-epoll does, and a --with whose \
                            command has {workers} in it"
                    .into());
            }
            plans => plans,
        },
        What::All(All { others, effort, .. }) => plans_for_all(lab, &others.with, effort.effort()),
        What::Timeline(TimelineOf { step, out }) => {
            let picture = plot::timeline(&timeline::record(lab, step).await?)?;
            match out {
                Some(file) => std::fs::write(file, picture)?,
                None => io::stdout().write_all(picture.as_bytes())?,
            }
            return Ok(());
        }
        // These need no lab.
        What::Floor(_) | What::Watch { .. } => return Ok(()),
    };
    let progress = progress(plans.iter().map(Plan::length).sum());
    for plan in &plans {
        plan.carry_out(lab, report, &progress).await?;
    }
    Ok(())
}

/// A part of what is to be measured.
enum Plan {
    Bench(Vec<Contender>, Workload, Effort),
    Idle(Vec<Contender>, usize),
    Stall(Vec<Contender>),
    Timeline(Vec<Contender>),
}

impl Bench {
    fn plans(&self) -> Vec<Plan> {
        let wants = |one: Only, others: &[Only]| {
            self.only.contains(&one) || !others.iter().any(|other| self.only.contains(other))
        };
        let pages = [Only::Small, Only::Picture, Only::Big];
        let kinds = [Only::Once, Only::Persistent];
        let mut plans = Vec::new();
        for persistent in [false, true] {
            if !wants(kinds[usize::from(persistent)], &kinds) {
                continue;
            }
            let mut contenders = self.contenders.or(Contender::steps_and_floors(persistent));
            contenders.retain(|contender| !persistent || contender.is_persistent());
            for (page, only) in Page::ALL.into_iter().zip(pages) {
                if wants(only, &pages) && !contenders.is_empty() {
                    let workload = Workload {
                        page,
                        persistent,
                        clients: self.connections.into(),
                        idle: if persistent { self.idle.into() } else { 0 },
                        cores: None,
                    };
                    plans.push(Plan::Bench(contenders.clone(), workload, self.effort.effort()));
                }
            }
        }
        plans
    }
}

impl Workers {
    fn plans(&self, lab: &Lab) -> Vec<Plan> {
        let cores = match self.is_placed() {
            true => lab.cores.clone(),
            false => lab.all_cores.clone(),
        };
        let most = self.most.map_or(cores.server.len(), usize::from);
        let contenders = self.contenders.or(steps_and_epoll());
        let clients = self.connections.into();
        workers_plans(&contenders, most, clients, &cores, self.effort.effort())
    }
}

/// A table with a connection per request, and one with persistent ones.
fn workers_plans(
    contenders: &[Contender],
    most: usize,
    clients: usize,
    cores: &Cores,
    effort: Effort,
) -> Vec<Plan> {
    let plan = |persistent: bool| {
        let fitting = contenders.iter().filter(|c| !persistent || c.is_persistent());
        let fitting = fitting.filter(|c| persistent || !c.is_floor());
        let contenders: Vec<_> = fitting.flat_map(|c| c.with_workers(most)).collect();
        let cores = Some(cores.clone());
        let workload = Workload { page: Page::Small, persistent, clients, idle: 0, cores };
        Plan::Bench(contenders, workload, effort)
    };
    let has_some = |plan: &Plan| plan.length() > 0;
    [false, true].into_iter().map(plan).filter(has_some).collect()
}

/// All steps, behind the floor that a connection can stay on.
fn steps_and_epoll() -> Vec<Contender> {
    let mut contenders = vec![Contender::floor(Floor::Epoll)];
    contenders.extend(Contender::all_steps());
    contenders
}

fn plans_for_all(lab: &Lab, with: &[Contender], effort: Effort) -> Vec<Plan> {
    let bench = |persistent, page, clients| {
        let mut contenders = Contender::steps_and_floors(persistent);
        contenders.extend(with.iter().cloned());
        let workload = Workload { page, persistent, clients, idle: 0, cores: None };
        Plan::Bench(contenders, workload, effort)
    };
    let all: Vec<Contender> = steps_and_epoll().into_iter().chain(with.iter().cloned()).collect();
    let mut plans = vec![
        bench(false, Page::Small, 16),
        bench(false, Page::Big, 16),
        bench(true, Page::Small, 64),
        bench(true, Page::Picture, 64),
        bench(true, Page::Big, 16),
        bench(true, Page::Small, 5000),
    ];
    let mut persistent = steps_and_epoll();
    persistent.retain(Contender::is_persistent);
    for idle in [10, 100, 1000, 5000] {
        let workload =
            Workload { page: Page::Small, persistent: true, clients: 64, idle, cores: None };
        plans.push(Plan::Bench(persistent.clone(), workload, effort));
    }
    let cores = &lab.all_cores;
    if cores.server.len() > 1 {
        plans.extend(workers_plans(&all, cores.server.len(), 64, cores, effort));
    }
    plans.push(Plan::Idle(all.clone(), 1000));
    let is_for_thousands = |c: &Contender| c.is_persistent() || c.name.starts_with("step06");
    plans.push(Plan::Idle(steps_and_epoll().into_iter().filter(is_for_thousands).collect(), 5000));
    plans.push(Plan::Stall(all));
    plans.push(Plan::Timeline(Contender::all_steps()));
    plans
}

impl Plan {
    /// How many servers are started for it.
    fn length(&self) -> u64 {
        let length = match self {
            Plan::Bench(contenders, _, effort) => contenders.len() * effort.rounds,
            Plan::Idle(contenders, _) | Plan::Timeline(contenders) => contenders.len(),
            Plan::Stall(contenders) => contenders.len() * SILENT.len(),
        };
        length as u64
    }

    async fn carry_out(
        &self,
        lab: &Lab,
        report: &mut Report,
        progress: &ProgressBar,
    ) -> Result<(), Failure> {
        let tell = |contender: &Contender, what: &str| {
            progress.set_message(format!("{}: {what}", contender.name));
            progress.inc(1);
        };
        match self {
            Plan::Bench(contenders, workload, effort) => {
                let title = workload.title(lab)?;
                let tell = |contender: &Contender| tell(contender, &title);
                let table = bench::measure(lab, contenders, workload, *effort, tell).await?;
                progress.suspend(|| print(&tables::bench(&table)));
                report.tables.push(table);
            }
            Plan::Idle(contenders, connections) => {
                let mut rows = Vec::new();
                for contender in contenders {
                    tell(contender, &format!("{connections} idle"));
                    rows.push(crowd::measure_idle(lab, contender, *connections).await);
                    report.idle.extend(rows.last().cloned());
                }
                progress.suspend(|| print(&tables::idle(&rows)));
            }
            Plan::Stall(contenders) => {
                let mut rows = Vec::new();
                for contender in contenders {
                    for silent in SILENT {
                        tell(contender, &format!("{silent} silent"));
                        rows.push(crowd::measure_stall(lab, contender, silent).await);
                        report.stalls.extend(rows.last().cloned());
                    }
                }
                progress.suspend(|| print(&tables::stall(&rows)));
            }
            Plan::Timeline(contenders) => {
                for contender in contenders {
                    tell(contender, "timeline");
                    report.timelines.push(timeline::record(lab, contender).await?);
                }
            }
        }
        Ok(())
    }
}

/// Shown on stderr when that is a terminal.
fn progress(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let style = "{bar:30} {pos}/{len}, {eta} left: {msg}";
    bar.with_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}
