//! `linerate rate`: the highest rate without loss between two ports (RFC 2544, 26.1).

mod report;
mod search;
mod trial;

use std::path::Path;
use std::time::Instant;

use linerate::loops::Strategy;
use linerate::{Direction, Port};

use crate::args::RateArgs;
use crate::events::Clock;
use crate::failure::Failure;
use crate::json::Identity;
use crate::load::Deck;
use crate::meeting;
use crate::metrics::Feed;
use crate::output::Output;
use crate::plot;
use crate::privilege::{self, Need};
use crate::probe::Origin;
use crate::setting::{Setting, interface_of};
use crate::signals::Interrupt;
use crate::sizes::Sizes;
use crate::threads::check_cpu;

use report::{Found, Summary};
use search::Search;
use trial::{Bench, Trial};

/// Trials of one size, at most.
const TRIALS: usize = 40;

/// Runs the command.
pub(crate) fn run(args: &RateArgs, out: &Output) -> Result<(), Failure> {
    plot::check(args.plot.as_deref())?;
    if args.cpus.len() > 2 {
        return Err(Failure::usage("--cpus takes two: of the sender, of the receiver"));
    }
    args.cpus.iter().try_for_each(|cpu| check_cpu(Some(*cpu)))?;
    let interrupt = Interrupt::install()?;
    let flow = meeting::flow_to(args.group)?;
    let from = linerate::port(&args.from).direction(Direction::Tx);
    let from = from.open().map_err(Failure::new)?;
    let to = linerate::port(&args.to).direction(Direction::Rx).flow(flow);
    let to = to.open().map_err(Failure::new)?;
    meeting::tell(&from, out);
    meeting::tell(&to, out);
    let (tx_cpu, rx_cpu) = (args.cpus.first().copied(), args.cpus.get(1).copied());
    let identity = Identity::of(&from);
    let settings = [setting(&from, tx_cpu), setting(&to, rx_cpu)];
    let other = Identity::of(&to);
    let mut feed = Feed::start(args.metrics, &[&identity, &other], out)?;
    let to_uri = to.uri().to_owned();
    let paint = out.paint();
    out.text(&paint.bold("from"));
    out.text(&settings[0].render(&identity.port, paint));
    out.text(&paint.bold("to"));
    out.text(&settings[1].render(&to_uri, paint));

    let origin = Origin::of(interface_of(&from).as_ref());
    let need = if args.plot.is_some() { Need::NewFiles } else { Need::Nothing };
    privilege::give_up(&[from.backend(), to.backend()], need, out);
    let (_, tx, _from_guard) = from.into_parts();
    let sender = meeting::sender(tx, &identity)?;
    sender.check_sizes(&args.sizes)?;
    let (queues, _, to_guard) = to.into_parts();
    let mut bench = Bench::new(sender.tx, queues, flow, [tx_cpu, rx_cpu], &feed);
    let clock = Clock::default();

    let begun = Instant::now();
    let mut found: Vec<Found> = Vec::new();
    let mut failure = None;
    'sizes: for size in args.sizes.distinct() {
        let one: Sizes = size.to_string().parse().map_err(Failure::usage)?;
        let mut deck = Deck::new(&[flow], &one, &origin, args.dst_mac)?;
        let mut search = Search::new(args.max_pps, args.resolution / 100.0, args.tries);
        let mut trials: Vec<Trial> = Vec::new();
        while let Some(offer) = search.next().filter(|_| trials.len() < TRIALS) {
            match bench.run(&mut deck, size, offer, args, &interrupt, &mut feed) {
                Ok(Some(trial)) => {
                    clock.tick(out);
                    search.learn(&trial);
                    report::tell(&identity, &trial, begun, out);
                    trials.push(trial);
                }
                Ok(None) => break 'sizes,
                Err(e) => {
                    failure = Some(e);
                    break 'sizes;
                }
            }
        }
        let best = search.best(&trials);
        found.push(Found { size, best, trials });
    }
    out.end_live();
    meeting::close(to_guard, out);
    if let Some(path) = args.plot.as_deref().filter(|_| failure.is_none()) {
        failure = draw(path, &identity, &to_uri, &settings[0], &found).err();
    }
    let summary = Summary {
        identity: &identity,
        to: &to_uri,
        settings: &settings,
        args,
        seconds: begun.elapsed().as_secs_f64(),
        found: &found,
        interrupted: interrupt.asked(),
        failure: failure.as_ref(),
    };
    summary.print(out);
    match failure {
        Some(failure) => Err(failure.told(out.is_json())),
        None => Ok(()),
    }
}

fn setting(port: &Port, cpu: Option<u32>) -> Setting {
    Setting::of(port, interface_of(port).as_ref(), cpu, Strategy::throughput())
}

fn draw(
    path: &Path,
    from: &Identity,
    to: &str,
    setting: &Setting,
    found: &[Found],
) -> Result<(), Failure> {
    let title = format!("linerate rate {} to {to}", from.port);
    plot::draw(path, &title, &setting.in_one_line(), &report::panels(found))
}
