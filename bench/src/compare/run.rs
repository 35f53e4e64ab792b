//! Runs the cases, in turns.
//!
//! A round of one case follows a round of another, and the rounds of each lie all over the run:
//! the machine that all of them ran on at one time is another at another time (other guests of the
//! host, where the virtual CPUs run), and an interval over rounds close to each other would know
//! nothing of that.

use std::time::{Duration, Instant};

use super::lab::Lab;
use super::machine;
use super::results::{CaseResult, Row};
use super::{Case, Ground, Load, interrupt};

/// How much is run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Fewer loads, shorter.
    pub quick: bool,
    /// Turns of each contender that a target is about, with each load.
    pub rounds: usize,
    /// Turns of all others.
    pub other_rounds: usize,
    /// How long a load lasts.
    pub time: Duration,
    /// No round begins that would not end in time; one is always run.
    pub budget: Duration,
}

impl Plan {
    /// Of the two forms that there are.
    #[must_use]
    pub fn new(quick: bool) -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        if quick {
            let time = Duration::from_millis(150);
            Self { quick, rounds: 5, other_rounds: 1, time, budget: minutes(4) }
        } else {
            let time = Duration::from_millis(250);
            Self { quick, rounds: 11, other_rounds: 3, time, budget: minutes(26) }
        }
    }

    /// The loads of a case that are run.
    pub fn loads<'a>(&self, case: &'a Case) -> Vec<&'a Load> {
        case.loads.iter().filter(|load| load.quick || !self.quick).collect()
    }
}

/// Runs all `cases`: their results, in their order.
///
/// # Errors
///
/// Ctrl-C. A contender that fails is a reason in its row.
pub fn run(
    lab: &Lab,
    cases: Vec<Case>,
    plan: &Plan,
    facts: &[(String, String)],
) -> Result<Vec<CaseResult>, String> {
    let start = Instant::now();
    let mut all: Vec<Turns> = cases.into_iter().map(|case| Turns::new(case, plan)).collect();
    all.retain(|turns| !turns.loads.is_empty());
    let mut lines = Vec::new();
    for round in 0.. {
        let mut ran = false;
        for turns in &mut all {
            let fits = start.elapsed() + turns.longest <= plan.budget;
            if turns.rounds == round && round < turns.wanted && (fits || round == 0) {
                turns.round(lab, plan)?;
                ran = true;
            }
        }
        if !ran {
            break;
        }
        lines.extend(machine::round_trip_ns().map(|ns| format!("{ns:.0}")));
    }
    let mut facts = facts.to_vec();
    facts.push(("a cache line there and back after each round, ns".into(), lines.join(", ")));
    facts.push(("minutes".into(), format!("{:.1}", start.elapsed().as_secs_f64() / 60.0)));
    Ok(all.into_iter().map(|turns| turns.result(plan, &facts)).collect())
}

/// A case, and what it has given so far.
struct Turns {
    case: Case,
    loads: Vec<Load>,
    rows: Vec<Row>,
    rounds: usize,
    wanted: usize,
    /// Time of the longest round.
    longest: Duration,
}

impl Turns {
    fn new(case: Case, plan: &Plan) -> Self {
        let loads: Vec<Load> = plan.loads(&case).into_iter().cloned().collect();
        let row = |contender: &super::Contender| Row {
            name: contender.name.into(),
            class: contender.class,
            values: vec![Default::default(); loads.len()],
            failures: vec![None; loads.len()],
        };
        let rows = case.contenders.iter().map(row).collect();
        let wanted = if case.targets.is_empty() { plan.other_rounds } else { plan.rounds };
        Self { case, loads, rows, rounds: 0, wanted, longest: Duration::ZERO }
    }

    /// Each contender once with each load. Another one begins each time, so that what one leaves
    /// behind for the next is not always the same one's trouble.
    fn round(&mut self, lab: &Lab, plan: &Plan) -> Result<(), String> {
        let (start, round) = (Instant::now(), self.rounds);
        eprintln!("== {}, round {}", self.case.name, round + 1);
        for at in 0..self.loads.len() {
            let n = self.case.contenders.len();
            for turn in 0..n {
                self.turn(lab, plan, (at, (turn + round) % n))?;
            }
        }
        self.rounds += 1;
        self.longest = self.longest.max(start.elapsed());
        Ok(())
    }

    fn turn(&mut self, lab: &Lab, plan: &Plan, (at, who): (usize, usize)) -> Result<(), String> {
        let (load, round) = (&self.loads[at], self.rounds);
        let is_compared = self.is_compared(who);
        let (contender, row) = (&mut self.case.contenders[who], &mut self.rows[who]);
        // Once for a mishap; what failed twice will not do better.
        let is_hopeless = row.values[at].is_empty() && round > 1;
        if is_hopeless || round >= plan.other_rounds && !is_compared {
            return Ok(());
        }
        let ground = Ground { lab, time: plan.time };
        let outcome = lab.tidy().and_then(|()| (contender.run)(&ground, load));
        if interrupt::asked() {
            return Err(interrupt::WORD.into());
        }
        match outcome {
            Ok(sample) => {
                let shown: Vec<String> =
                    sample.iter().map(|(key, value)| format!("{key} {value:.3}")).collect();
                eprintln!("   {:6} {:36} {}", load.label, contender.name, shown.join("  "));
                row.put(at, round, sample);
            }
            Err(why) => {
                eprintln!("   {:6} {:36} failed: {why}", load.label, contender.name);
                row.failures[at] = Some(why);
            }
        }
        Ok(())
    }

    /// Is any target about it?
    fn is_compared(&self, who: usize) -> bool {
        let name = self.case.contenders[who].name;
        let mut targets = self.case.targets.iter();
        targets.any(|target| target.ours == name || target.rivals.iter().any(|rival| rival == name))
    }

    fn result(self, plan: &Plan, facts: &[(String, String)]) -> CaseResult {
        let (rounds, few) = (self.rounds, self.rounds.min(plan.other_rounds));
        let others = (0..self.rows.len()).any(|who| !self.is_compared(who));
        let but = if few < rounds && others {
            format!(" ({few} of those that no target is about)")
        } else {
            String::new()
        };
        let s = if rounds == 1 { "" } else { "s" };
        CaseResult {
            name: self.case.name.into(),
            title: self.case.title.into(),
            text: self.case.text.into(),
            facts: facts.to_vec(),
            how: format!("{rounds} round{s} of {} ms{but}", plan.time.as_millis()),
            columns: self.case.columns.clone(),
            loads: self.loads.iter().map(|load| load.label.into()).collect(),
            rows: self.rows,
            targets: self.case.targets,
        }
    }
}
