//! Runs the cases, in turns.

use std::time::{Duration, Instant};

use super::lab::Lab;
use super::results::{CaseResult, Row};
use super::{Case, Ground, Load, interrupt};

/// How much is run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Fewer loads, shorter.
    pub quick: bool,
    /// Turns of each contender with each load.
    pub rounds: usize,
    /// How long a load lasts.
    pub time: Duration,
    /// When the time is used up, later rounds are left out.
    pub budget: Duration,
}

impl Plan {
    /// Of the two forms that there are.
    #[must_use]
    pub fn new(quick: bool) -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        if quick {
            Self { quick, rounds: 3, time: Duration::from_millis(300), budget: minutes(4) }
        } else {
            Self { quick, rounds: 5, time: Duration::from_millis(500), budget: minutes(26) }
        }
    }

    /// The loads of a case that are run.
    pub fn loads<'a>(&self, case: &'a Case) -> Vec<&'a Load> {
        case.loads.iter().filter(|load| load.quick || !self.quick).collect()
    }

    /// Runs of all rounds of a case: its share of the time.
    fn weight(&self, case: &Case) -> usize {
        self.loads(case).len() * case.contenders.len()
    }
}

/// Runs all `cases` and gives each result to `done`.
///
/// # Errors
///
/// Ctrl-C, or an error of `done`. A contender that fails is a reason in its row.
pub fn run(
    lab: &Lab,
    mut cases: Vec<Case>,
    plan: &Plan,
    facts: &[(String, String)],
    mut done: impl FnMut(CaseResult) -> Result<(), String>,
) -> Result<(), String> {
    let start = Instant::now();
    cases.retain(|case| !plan.loads(case).is_empty());
    let total: usize = cases.iter().map(|case| plan.weight(case)).sum::<usize>().max(1);
    let mut before = 0;
    for case in &mut cases {
        before += plan.weight(case);
        let end = start + plan.budget.mul_f64(before as f64 / total as f64);
        let result = run_case(lab, case, plan, end)?;
        done(CaseResult { facts: facts.to_vec(), ..result })?;
    }
    Ok(())
}

fn run_case(lab: &Lab, case: &mut Case, plan: &Plan, end: Instant) -> Result<CaseResult, String> {
    let ground = Ground { lab, time: plan.time };
    let loads: Vec<Load> = plan.loads(case).into_iter().cloned().collect();
    let mut rows: Vec<Row> = case
        .contenders
        .iter()
        .map(|contender| Row {
            name: contender.name.into(),
            class: contender.class,
            values: vec![Default::default(); loads.len()],
            failures: vec![None; loads.len()],
        })
        .collect();
    eprintln!("== {}", case.name);
    let mut rounds = 0;
    for round in 0..plan.rounds {
        if round > 0 && Instant::now() > end {
            break;
        }
        rounds += 1;
        for (at, load) in loads.iter().enumerate() {
            for (contender, row) in case.contenders.iter_mut().zip(&mut rows) {
                // Once for a mishap; what failed twice will not do better.
                if row.values[at].is_empty() && round > 1 {
                    continue;
                }
                let outcome = lab.tidy().and_then(|()| (contender.run)(&ground, load));
                if interrupt::asked() {
                    return Err(interrupt::WORD.into());
                }
                match outcome {
                    Ok(sample) => {
                        let shown: Vec<String> =
                            sample.iter().map(|(key, value)| format!("{key} {value:.3}")).collect();
                        let name = contender.name;
                        eprintln!("   {:6} {name:36} {}", load.label, shown.join("  "));
                        for (key, value) in sample {
                            row.values[at].entry(key.into()).or_default().push(value);
                        }
                    }
                    Err(why) => {
                        eprintln!("   {:6} {:36} failed: {why}", load.label, contender.name);
                        row.failures[at] = Some(why);
                    }
                }
            }
        }
    }
    Ok(CaseResult {
        name: case.name.into(),
        title: case.title.into(),
        text: case.text.into(),
        facts: Vec::new(),
        how: format!("{rounds} rounds of {} ms", plan.time.as_millis()),
        columns: case.columns.clone(),
        loads: loads.iter().map(|load| load.label.into()).collect(),
        rows,
        targets: case.targets.clone(),
    })
}
